"""``entropy``: how widely each token looks around."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from autoprune._registry import SCORERS
from autoprune.errors import PolicyError
from autoprune.pruning.context import ScoreContext
from autoprune.pruning.logits import row_entropy
from autoprune.pruning.params import choice


@dataclass(frozen=True)
class EntropyParams:
    """Parameters of ``entropy``."""

    sign: int = choice(1, (1, -1), "1 keeps tokens that look widely, -1 tokens that look at few")


@SCORERS.register("entropy")
class Entropy:
    """Entropy of the token's attention row, mean over heads. Source: survey formula H_i = -sum_j A_ij log A_ij."""

    Params: ClassVar[type[EntropyParams]] = EntropyParams
    needs: ClassVar[frozenset[str]] = frozenset({"attention"})
    summary: ClassVar[str] = "entropy of the token's own attention"

    def __init__(self, params: EntropyParams) -> None:
        self.params = params

    def score(self, ctx: ScoreContext) -> Tensor:
        """Return (B, n) in nats, from 0 to log n."""
        if ctx.attention is None:
            raise PolicyError("The scorer 'entropy' needs an attention to look at.")
        value = row_entropy(ctx.attention, ctx.valid)
        if self.params.sign > 0:
            return value
        n = torch.tensor([[value.shape[1]]]) if ctx.valid is None else ctx.valid.sum(1, keepdim=True)
        return (n.to(value.device).float().log() - value).clamp(min=0)

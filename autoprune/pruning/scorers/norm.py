"""``norm``: the length of the token's hidden state or value vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from autoprune._registry import SCORERS
from autoprune.errors import PolicyError
from autoprune.pruning.context import ScoreContext
from autoprune.pruning.params import choice


@dataclass(frozen=True)
class NormParams:
    """Parameters of ``norm``."""

    of: str = choice("hidden", ("hidden", "value"), "which vector is measured")


def hidden_norm(hidden: Tensor) -> Tensor:
    """Return the Euclidean norm of hidden states (B, n, d): (B, n) float32."""
    found: Tensor = torch.linalg.vector_norm(hidden.float(), dim=-1)
    return found


def value_norm(value: Tensor) -> Tensor:
    """Return the norm of value vectors (B, H, n, hd), mean over heads: (B, n) float32."""
    found: Tensor = torch.linalg.vector_norm(value.float(), dim=-1)
    return found.mean(1)


@SCORERS.register("norm")
class Norm:
    """Norm of the hidden state or of the values. Source: value norms as in VATP (Guo et al., 2024)."""

    Params: ClassVar[type[NormParams]] = NormParams
    needs: frozenset[str] = frozenset({"hidden"})
    summary: ClassVar[str] = "norm of the token's hidden state (or of its value vectors)"

    def __init__(self, params: NormParams) -> None:
        self.params = params
        if params.of == "value":
            self.needs = frozenset({"attention"})

    def score(self, ctx: ScoreContext) -> Tensor:
        """Return (B, n), not negative."""
        if self.params.of == "value" and ctx.attention is not None:
            return value_norm(ctx.attention.value)
        if ctx.hidden is None:
            raise PolicyError("The scorer 'norm' needs hidden states.")
        return hidden_norm(ctx.hidden)

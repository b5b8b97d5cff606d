"""``similarity``: tokens that are like their neighbours leave first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from autoprune._registry import SCORERS
from autoprune.errors import PolicyError
from autoprune.pruning.context import ScoreContext
from autoprune.pruning.params import whole


@dataclass(frozen=True)
class SimilarityParams:
    """Parameters of ``similarity``."""

    window: int = whole(2, 1, 16, "neighbours on each side")


def novelty(hidden: Tensor, valid: Tensor | None, window: int) -> Tensor:
    """Return 1 minus the mean cosine to the neighbours, from 0 (redundant) to 2.

    Args:
        hidden: (B, n, d), real tokens first.
        valid: (B, n) bool, or None.
        window: Neighbours on each side.

    Returns:
        (B, n) float32.
    """
    unit = functional.normalize(hidden.float(), dim=-1)
    real = torch.ones(hidden.shape[:2], device=hidden.device) if valid is None else valid.float()
    total, count = torch.zeros_like(real), torch.zeros_like(real)
    for gap in range(1, min(window, hidden.shape[1] - 1) + 1):
        both = real[:, gap:] * real[:, :-gap]
        cosine = (unit[:, gap:] * unit[:, :-gap]).sum(-1) * both
        total[:, gap:] += cosine
        total[:, :-gap] += cosine
        count[:, gap:] += both
        count[:, :-gap] += both
    return (1 - total / count.clamp(min=1)).clamp(min=0)


@SCORERS.register("similarity")
class Similarity:
    """Difference from the neighbours in the sequence.

    Source: A-ToMe's adjacency (Li et al., 2023) turned into a score.
    """

    Params: ClassVar[type[SimilarityParams]] = SimilarityParams
    needs: ClassVar[frozenset[str]] = frozenset({"hidden"})
    summary: ClassVar[str] = "difference from the neighbouring tokens: redundant ones leave first"

    def __init__(self, params: SimilarityParams) -> None:
        self.params = params

    def score(self, ctx: ScoreContext) -> Tensor:
        """Return (B, n) from 0 to 2."""
        if ctx.hidden is None:
            raise PolicyError("The scorer 'similarity' needs hidden states.")
        if ctx.valid is None:
            return novelty(ctx.hidden, None, self.params.window)
        # Neighbours are neighbours among real tokens, wherever the padding stands.
        order = (~ctx.valid).int().sort(dim=1, stable=True).indices
        hidden = ctx.hidden.gather(1, order.unsqueeze(-1).expand_as(ctx.hidden))
        score = novelty(hidden, ctx.valid.gather(1, order), self.params.window)
        return torch.zeros_like(score).scatter(1, order, score)

"""``truncate``: keep the head, the tail, or both ends of the text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from autoprune._registry import SCORERS
from autoprune.pruning.context import ScoreContext
from autoprune.pruning.params import choice


@dataclass(frozen=True)
class TruncateParams:
    """Parameters of ``truncate``."""

    side: str = choice("head", ("head", "tail", "both"), "which end of the text stays")


def end_scores(rank: Tensor, lengths: Tensor, side: str) -> Tensor:
    """Return scores that fall with the distance from the end of the text that stays.

    Args:
        rank: (B, n) float32, position among the real tokens of the original row, from 0.
        lengths: (B, 1) float32, real tokens of the original row.
        side: ``head``, ``tail`` or ``both``.

    Returns:
        (B, n) in (0, 1].
    """
    tail = (rank + 1) / lengths
    head = 1 - rank / lengths
    if side == "head":
        return head
    return tail if side == "tail" else torch.maximum(head, tail)


@SCORERS.register("truncate")
class Truncate:
    """Distance from the end of the text that stays: the control. No source."""

    Params: ClassVar[type[TruncateParams]] = TruncateParams
    needs: ClassVar[frozenset[str]] = frozenset()
    summary: ClassVar[str] = "control: keeps the head, the tail or both ends of the text"

    def __init__(self, params: TruncateParams) -> None:
        self.params = params

    def score(self, ctx: ScoreContext) -> Tensor:
        """Return (B, n) in (0, 1]."""
        return end_scores(ctx.positions.float(), ctx.real_lengths(), self.params.side)

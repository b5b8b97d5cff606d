"""``uniform``: every n-th token."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from autoprune._registry import SCORERS
from autoprune.pruning.context import ScoreContext
from autoprune.pruning.params import NoParams


def spread(positions: Tensor, bits: int = 20) -> Tensor:
    """Return scores whose k best are spread evenly over the text, for every k.

    The van der Corput sequence: the position's binary digits mirrored at the point. Keeping half of a text keeps every
    second token, a quarter every fourth.

    Args:
        positions: (B, n) int64, below 2 ** ``bits``.
        bits: Digits that are mirrored.

    Returns:
        (B, n) float32 in (0, 1].
    """
    mirrored = torch.zeros_like(positions)
    for bit in range(bits):
        mirrored = mirrored | (((positions >> bit) & 1) << (bits - 1 - bit))
    return 1 - mirrored.float() / float(1 << bits)


@SCORERS.register("uniform")
class Uniform:
    """Every n-th token: the control for spatial redundancy. No source."""

    Params: ClassVar[type[NoParams]] = NoParams
    needs: ClassVar[frozenset[str]] = frozenset()
    summary: ClassVar[str] = "control: every n-th token"

    def __init__(self, params: NoParams) -> None:
        self.params = params

    def score(self, ctx: ScoreContext) -> Tensor:
        """Return (B, n) in (0, 1]."""
        return spread(ctx.positions, max(1, (ctx.length - 1).bit_length()))

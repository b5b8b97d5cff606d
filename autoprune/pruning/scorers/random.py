"""``random``: the control that every smart scorer must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from autoprune._registry import SCORERS
from autoprune.pruning.context import ScoreContext
from autoprune.pruning.params import whole

_MASK = 0xFFFFFFFF


@dataclass(frozen=True)
class RandomParams:
    """Parameters of ``random``."""

    seed: int = whole(0, 0, 2**31 - 1, "another seed is another choice of tokens")


def hash_scores(positions: Tensor, seed: int, stage: int) -> Tensor:
    """Return a fixed pseudo-random number in [0, 1) for each position.

    A 32-bit integer mix in int64, so that every process, device and batch layout gives the same numbers.

    Args:
        positions: (B, n) int64, positions in the original input.
        seed: From 0.
        stage: Index of the stage in the policy.
    """
    x = (positions + 0x9E3779B1 * (seed + 1) + 0x85EBCA77 * (stage + 1)) & _MASK
    for factor in (0x7FEB352D, 0x846CA68B):
        x = ((x ^ (x >> 15)) * factor) & _MASK
    return ((x ^ (x >> 16)) >> 8).float() / float(1 << 24)


@SCORERS.register("random")
class Random:
    """A hash of (seed, stage, position): the control. No source."""

    Params: ClassVar[type[RandomParams]] = RandomParams
    needs: ClassVar[frozenset[str]] = frozenset()
    summary: ClassVar[str] = "control: a fixed random choice of positions"

    def __init__(self, params: RandomParams) -> None:
        self.params = params

    def score(self, ctx: ScoreContext) -> Tensor:
        """Return (B, n) numbers in [0, 1)."""
        return hash_scores(ctx.positions, self.params.seed, ctx.seed_stage)

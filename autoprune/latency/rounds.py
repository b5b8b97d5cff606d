"""Rounds of a measurement: each input once on every side, in a random order, and what each pair took of the clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from autoprune.latency.stats import IntArray

DENSE = 0


@dataclass
class Rounds:
    """Runs dense, which is side 0, and one or more policies in turn.

    Attributes:
        time: Runs a runner on an input and returns the nanoseconds that it took.
        clock: Monotonic nanoseconds.
        runners: Dense first, then the policies.
        inputs: The workload's inputs.
        rng: Draws the order.
        active: Policies that still run.
        seconds: By side, what dense and that policy took together of the clock so far. Of a round that more
            policies share each is given the share of its own pair, so that a cap means the same samples as alone.
    """

    time: Callable[[Callable[[Any], Any], Any], int]
    clock: Callable[[], int]
    runners: Sequence[Callable[[Any], Any]]
    inputs: Sequence[Any]
    rng: np.random.Generator
    active: list[int] = field(init=False)
    seconds: dict[int, float] = field(init=False)

    def __post_init__(self) -> None:
        self.active = list(range(1, len(self.runners)))
        self.seconds = dict.fromkeys(self.active, 0.0)

    def run(self) -> IntArray:
        """Time each input once on dense and on each active policy.

        Inputs come in a new random order, and for each input chance decides which side goes first.

        Returns:
            Nanoseconds, int64, shape (sides, inputs); 0 where a side is not active.
        """
        out = np.zeros((len(self.runners), len(self.inputs)), dtype=np.int64)
        began, sides = self.clock(), [DENSE, *self.active]
        for index in self.rng.permutation(len(self.inputs)):
            for side in self.rng.permutation(sides):
                out[side, index] = self.time(self.runners[side], self.inputs[index])
        self._share((self.clock() - began) / 1e9, out.sum(axis=1))
        return out

    def _share(self, seconds: float, took: IntArray) -> None:
        whole = max(1, int(took.sum()))
        for side in self.active:
            self.seconds[side] += seconds * int(took[DENSE] + took[side]) / whole

"""A machine whose every latency is known: the clock moves when a fake model runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

NS = 1e6
Disturbance = Callable[[float, np.random.Generator], float]
"""(seconds since the start, random generator) -> factor on the latency of the call that starts there."""


@dataclass(frozen=True)
class Input:
    """An input that is nothing but its length."""

    tokens: int


def quiet(seconds: float, rng: np.random.Generator) -> float:
    """Nothing happens."""
    return 1.0


def drifting(per_second: float) -> Disturbance:
    """Each second everything becomes slower by this share."""
    return lambda seconds, rng: 1.0 + per_second * seconds


def outliers(share: float) -> Disturbance:
    """A share of the calls takes far longer, with a heavy tail (a page fault, a migration)."""
    return lambda seconds, rng: 1.0 + rng.pareto(1.5) if rng.random() < share else 1.0


def bimodal(share: float, factor: float = 1.25) -> Disturbance:
    """A share of the calls runs in a slower mode (clock rate, memory alignment)."""
    return lambda seconds, rng: factor if rng.random() < share else 1.0


class Neighbour:
    """Another process: awake and asleep for exponentially long spells, slowing us while awake."""

    def __init__(self, awake_s: float = 0.8, asleep_s: float = 2.0, factor: float = 1.6) -> None:
        self.lengths, self.factor = {True: awake_s, False: asleep_s}, factor
        self.awake, self.until = False, -1.0

    def __call__(self, seconds: float, rng: np.random.Generator) -> float:
        """Return the factor at that time; times must not go back."""
        if self.until < 0:
            self.awake, self.until = bool(rng.random() < 0.3), rng.exponential(1.0)
        while seconds >= self.until:
            self.awake = not self.awake
            self.until += rng.exponential(self.lengths[self.awake])
        return self.factor if self.awake else 1.0


class FakeMachine:
    """``dense`` takes ``ms_per_token`` per token, ``policy`` that times the true ratio, both times noise.

    Args:
        ratio: The truth that a meter must find.
        seed: Of all chance.
        disturbance: What else happens to a call.
        noise: Standard deviation of the log-normal noise of each call.
        ms_per_token: What dense takes per token.
        cold_calls: So many first calls take longer: five times as long at first, then less and less.
    """

    def __init__(
        self,
        ratio: float,
        seed: int,
        disturbance: Disturbance = quiet,
        noise: float = 0.03,
        ms_per_token: float = 0.2,
        cold_calls: int = 0,
    ) -> None:
        self.ratio, self.ms_per_token, self.noise = ratio, ms_per_token, noise
        self.rng = np.random.default_rng(seed)
        self.disturbance, self.cold_calls = disturbance, cold_calls
        self.now_ns, self.calls = 0, 0

    def clock(self) -> int:
        """Return the fake time in nanoseconds."""
        return self.now_ns

    def dense(self, batch: Input) -> None:
        """Let the time of a dense forward pass."""
        self.take(batch, 1.0)

    def policy(self, batch: Input) -> None:
        """Let the time of a pruned forward pass."""
        self.take(batch, self.ratio)

    def pruned(self, ratio: float) -> Callable[[Input], None]:
        """Return another policy, of another ratio."""
        return lambda batch: self.take(batch, ratio)

    def take(self, batch: Input, ratio: float) -> None:
        """Let the time of a forward pass that takes ``ratio`` of dense."""
        self._run(batch.tokens * self.ms_per_token * ratio)

    def _run(self, milliseconds: float) -> None:
        self.calls += 1
        factor = self.disturbance(self.now_ns / 1e9, self.rng) * np.exp(self.noise * self.rng.standard_normal())
        if self.calls <= self.cold_calls:
            factor *= 5.0 - 4.0 * self.calls / self.cold_calls
        self.now_ns += round(milliseconds * factor * NS)

"""The meter: dense and policies timed in turn, input by input, until their ratios are known well enough.

Clock, synchronisation and runners are injected; nothing here knows torch.
"""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from autoprune.errors import ConfigError, MeasurementError
from autoprune.latency.rounds import DENSE, Rounds
from autoprune.latency.runners import device_timer, make_runner, prepare_model
from autoprune.latency.stats import NS_PER_MS, FloatArray, IntArray, check_statistic
from autoprune.latency.timing import PairedTiming

__all__ = [
    "Meter",
    "MeterSettings",
    "PairedTiming",
    "Runner",
    "Timer",
    "event_timer",
    "interleave",
    "make_runner",
    "prepare_model",
    "wall_timer",
]

Runner = Callable[[Any], Any]
"""One synchronised forward on one input (tensors already on their device)."""
Timer = Callable[[Runner, Any], int]
"""Runs a runner on an input and returns how long that took, in nanoseconds."""
Progress = Callable[[str], None]

_GROWTH = 1.25  # the interval is looked at each time the rounds grew by a quarter: few looks, little bias
_FEWEST_ROUNDS = 3  # however slow the model is
# Ending when the 95 % interval leaves the reference would leave it wrong in 12 % of measurements, not 5 % (simulated).
_CERTAIN = 0.99


@dataclass(frozen=True)
class MeterSettings:
    """How long and how well to measure.

    Attributes:
        half_width: Wanted half width of the 95 % interval, relative to the ratio, or to ``reference`` (> 0).
        reference: A ratio (>= 0), such as a budget. Smaller ones need only be known as well in milliseconds as this
            one, and twice as wide relative to themselves at most: a millisecond is worth the same wherever it is. About
            half of the time cap is kept for intervals that hold the reference, where more rounds may decide.
        max_seconds: Time cap on what dense and a policy take, warm-up included; of policies that are timed together
            each has its own, so that all take longer. At least three rounds are run whatever it says.
        min_rounds: Rounds before the interval is looked at (>= 3). Under six the interval is shaky.
        max_rounds: Rounds after which to stop in any case.
        max_warmup_rounds: Rounds after which the warm-up ends in any case.
        stable: The warm-up ends when of no side both median and minimum fall by more than this share in a round.
        max_drift: Drift of dense beyond which the measurement counts as disturbed.
        seed: Of the random order.

    Raises:
        ConfigError: A value is out of range.
    """

    half_width: float = 0.03
    reference: float = 0.0
    max_seconds: float = 20.0
    min_rounds: int = 8
    max_rounds: int = 200
    max_warmup_rounds: int = 10
    stable: float = 0.05
    max_drift: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.half_width > 0 and self.max_seconds > 0 and self.stable > 0 and self.max_drift > 0):
            raise ConfigError("A meter's half_width, max_seconds, stable and max_drift must be over zero.")
        if not self.reference >= 0:
            raise ConfigError("A meter's reference is a ratio, zero or more.")
        if self.min_rounds < _FEWEST_ROUNDS or self.max_rounds < self.min_rounds or self.max_warmup_rounds < 1:
            raise ConfigError("A meter needs 3 <= min_rounds <= max_rounds and at least one warm-up round.")

    def with_(self, **changes: Any) -> MeterSettings:
        """Return a copy with some fields changed."""
        return replace(self, **changes)


def wall_timer(
    clock: Callable[[], int] = time.perf_counter_ns, synchronize: Callable[[], object] | None = None
) -> Timer:
    """Return a timer that reads a clock around one forward.

    Args:
        clock: Monotonic nanoseconds.
        synchronize: Waits until the device is idle; called before both readings. None: runners do so.
    """

    def timer(runner: Runner, batch: Any) -> int:
        if synchronize is None:
            start = clock()
            runner(batch)
            return clock() - start
        synchronize()
        start = clock()
        runner(batch)
        synchronize()
        return clock() - start

    return timer


def event_timer(new_event: Callable[[], Any], synchronize: Callable[[], object]) -> Timer:
    """Return a timer that reads device events, so that the host's own delays after the launch do not count.

    Args:
        new_event: Returns an event with ``record()`` and ``elapsed_time(other) -> ms``, such as
            ``lambda: torch.cuda.Event(enable_timing=True)``.
        synchronize: Waits until the device is idle.
    """

    def timer(runner: Runner, batch: Any) -> int:
        start, end = new_event(), new_event()
        synchronize()
        start.record()
        runner(batch)
        end.record()
        synchronize()
        return round(float(start.elapsed_time(end)) * NS_PER_MS)

    return timer


class Meter:
    """Times policies in pairs with dense.

    Args:
        settings: How long and how well.
        clock: Monotonic nanoseconds; also watches the time cap.
        synchronize: See ``wall_timer``.
        timer: Replaces the wall-clock timer, for CUDA events.
    """

    def __init__(
        self,
        settings: MeterSettings | None = None,
        clock: Callable[[], int] = time.perf_counter_ns,
        synchronize: Callable[[], object] | None = None,
        timer: Timer | None = None,
    ) -> None:
        self.settings = settings or MeterSettings()
        self._clock = clock
        self._timer = timer or wall_timer(clock, synchronize)

    @classmethod
    def on_device(cls, device: str, settings: MeterSettings | None = None) -> Meter:
        """Return a meter for a device: CUDA events on CUDA, the wall clock elsewhere."""
        return cls(settings, timer=device_timer(device))

    def measure(
        self,
        dense: Runner,
        policy: Runner,
        inputs: Sequence[Any],
        statistic: str = "p50",
        progress: Progress | None = None,
    ) -> PairedTiming:
        """Time both on every input, round after round, until the interval is narrow or time is up.

        Inputs come in a new random order each round, and for each input chance decides who goes first.

        Args:
            dense: Runs the model without the policy.
            policy: Runs the model with it.
            inputs: The workload's inputs, at least one.
            statistic: The statistic whose ratio must be known.
            progress: Is told in words how far the measurement is.

        Raises:
            MeasurementError: There is no input, or the clock stands still.
            ConfigError: The statistic is unknown.
        """
        return self.measure_together(dense, [policy], inputs, statistic, progress)[0]

    def measure_together(
        self,
        dense: Runner,
        policies: Sequence[Runner],
        inputs: Sequence[Any],
        statistic: str = "p50",
        progress: Progress | None = None,
    ) -> list[PairedTiming]:
        """Time several policies in the same rounds: one run of dense is the other half of every pair.

        Each policy leaves when its own interval is narrow or the time for its own pairs is up, see ``MeterSettings``.

        Args:
            dense: Runs the model without a policy.
            policies: Each runs the model with one; at least one.
            inputs: The workload's inputs, at least one.
            statistic: The statistic whose ratios must be known.
            progress: Is told in words how far the measurement is.

        Returns:
            One timing per policy.

        Raises:
            MeasurementError: There is no input or no policy, or the clock stands still.
            ConfigError: The statistic is unknown.
        """
        check_statistic(statistic)
        if not inputs:
            raise MeasurementError("There is no input to time.", "Ask for at least one sequence length.")
        if not policies:
            raise MeasurementError("There is no policy to time.")
        rng = np.random.default_rng(self.settings.seed)
        rounds = Rounds(self._timer, self._clock, (dense, *policies), inputs, rng)
        with quiet_collector():
            done = self._run(rounds, statistic, progress or _silent)
        return [done[side] for side in sorted(done)]

    def _run(self, rounds: Rounds, statistic: str, progress: Progress) -> dict[int, PairedTiming]:
        """Return a timing per policy, by its side."""
        warmed_up = self._warm_up(rounds)
        done: dict[int, PairedTiming] = {}
        samples: list[IntArray] = []
        look_at = self.settings.min_rounds
        while rounds.active:
            samples.append(rounds.run())
            due = len(samples) in (look_at, self.settings.max_rounds)
            for side in [side for side in rounds.active if due or self._late(rounds, side, samples)]:
                timing = self._timing(samples, side, statistic, rounds.seconds[side], warmed_up)
                progress(f"{len(samples)} rounds, {statistic} ratio ±{timing.relative_half_width():.1%}")
                if self._ends(rounds, side, samples, timing):
                    done[side] = timing
                    rounds.active.remove(side)
            if due:
                look_at = math.ceil(look_at * _GROWTH)
        return done

    def _late(self, rounds: Rounds, side: int, samples: list[IntArray]) -> bool:
        return rounds.seconds[side] >= self.settings.max_seconds and len(samples) >= _FEWEST_ROUNDS

    def _ends(self, rounds: Rounds, side: int, samples: list[IntArray], timing: PairedTiming) -> bool:
        """Say whether the interval is narrow, or time or rounds are up, or half of the time, and it decides."""
        low, high = timing.interval(level=_CERTAIN)
        decides = self.settings.reference > 0 and not low <= self.settings.reference <= high
        half = rounds.seconds[side] >= self.settings.max_seconds / 2
        late = self._late(rounds, side, samples) or len(samples) >= self.settings.max_rounds
        return timing.narrow or (half and decides) or late

    def _timing(
        self, samples: list[IntArray], side: int, statistic: str, seconds: float, warmed_up: tuple[int, bool]
    ) -> PairedTiming:
        dense, policy = (np.stack([sample[row] for sample in samples]) for row in (DENSE, side))
        if min(dense.min(), policy.min()) <= 0:
            raise MeasurementError("A forward took no time at all: the clock is too coarse or stands still.")
        return PairedTiming(
            dense_ns=dense,
            policy_ns=policy,
            statistic=statistic,
            half_width=self.settings.half_width,
            reference=self.settings.reference,
            max_drift=self.settings.max_drift,
            seconds=seconds,
            warmup_rounds=warmed_up[0],
            warmed_up=warmed_up[1],
        )

    def _warm_up(self, rounds: Rounds) -> tuple[int, bool]:
        """Run rounds until no side becomes faster any more; return how many, and whether that happened.

        What is cold becomes faster, its fastest input included. A median that falls alone, or rises, is a disturbance,
        which more rounds would not end. At most a third of the time cap is spent on it.
        """
        before = _levels(rounds.run())
        for count in range(2, self.settings.max_warmup_rounds + 1):
            if max(rounds.seconds.values()) > self.settings.max_seconds / 3:
                return count - 1, False
            now = _levels(rounds.run())
            if np.any(before - now <= self.settings.stable * before, axis=0).all():
                return count, True
            before = now
        return self.settings.max_warmup_rounds, False


def _levels(taken: IntArray) -> FloatArray:
    """Return the median and the fastest input of each side: shape (2, sides)."""
    return np.stack([np.median(taken, axis=1), taken.min(axis=1)])


def _silent(_text: str) -> None:
    pass


def interleave(
    arms: Mapping[str, Callable[[], Any]],
    rounds: int,
    *,
    clock: Callable[[], int] = time.perf_counter_ns,
    timer: Timer | None = None,
    seed: int = 0,
    warmup: int = 1,
    max_seconds: float = math.inf,
) -> dict[str, IntArray]:
    """Time several things in turn, in a new random order each round, so that they share the machine's moods.

    Args:
        arms: Name and what to run.
        rounds: How often each is run (>= 1).
        clock: Monotonic nanoseconds.
        timer: Replaces the wall clock, for CUDA events.
        seed: Of the order.
        warmup: Rounds that are run before and not counted.
        max_seconds: Stop after this time; two rounds are run whatever it says.

    Returns:
        Nanoseconds by name, each of shape (rounds that were run,); entry r of all arms is from round r.
    """
    timed, rng, began = timer or wall_timer(clock), np.random.default_rng(seed), clock()
    names, samples = list(arms), {name: [] for name in arms}  # type: tuple[list[str], dict[str, list[int]]]
    with quiet_collector():
        for number in range(warmup + rounds):
            if number >= warmup + 2 and (clock() - began) / 1e9 > max_seconds:
                break
            for index in rng.permutation(len(names)):
                name = names[index]
                took = timed(lambda _, run=arms[name]: run(), None)  # type: ignore[misc]
                if number >= warmup:
                    samples[name].append(took)
    return {name: np.asarray(taken, dtype=np.int64) for name, taken in samples.items()}


@contextlib.contextmanager
def quiet_collector() -> Iterator[None]:
    """Keep Python's garbage collector from running inside a sample."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()

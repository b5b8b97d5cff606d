"""Several policies timed in the same rounds as dense: as right as alone, and cheaper."""

from collections import Counter

import numpy as np
import pytest

from autoprune.errors import MeasurementError
from autoprune.latency.meter import Meter, MeterSettings
from autoprune.latency.timing import PairedTiming
from autoprune.testing.fake_machine import (
    Disturbance,
    FakeMachine,
    Input,
    Neighbour,
    bimodal,
    drifting,
    outliers,
    quiet,
)

FIXED = [Input(256)] * 4
TRUTHS = (0.25, 0.4, 0.6)
SCENARIOS = {
    "quiet": lambda: quiet,
    "drift": lambda: drifting(0.03),
    "outliers": lambda: outliers(0.05),
    "bimodal": lambda: bimodal(0.3),
    "sleeping neighbour": Neighbour,
}  # "even bimodal" takes many rounds; it is tested with one policy


def together(
    seed: int, disturbance: Disturbance = quiet, truths: tuple[float, ...] = TRUTHS, noise: float = 0.03, **settings
) -> tuple[list[PairedTiming], float]:
    """Return the timings, and the seconds that all took."""
    machine = FakeMachine(1.0, seed, disturbance, noise=noise)
    meter = Meter(MeterSettings(**{"seed": seed + 10_000, "max_seconds": 12.0, **settings}), clock=machine.clock)
    timings = meter.measure_together(machine.dense, [machine.pruned(truth) for truth in truths], FIXED)
    return timings, machine.clock() / 1e9


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_each_ratio_and_interval_is_right(scenario: str) -> None:
    runs = [together(seed, SCENARIOS[scenario]())[0] for seed in range(100)]
    for index, truth in enumerate(TRUTHS):
        intervals = [timings[index].interval() for timings in runs]
        assert np.mean([low <= truth <= high for low, high in intervals]) >= 0.90
        assert np.median([timings[index].ratio() for timings in runs]) == pytest.approx(truth, rel=0.01)
    every = [low <= truth <= high for timings in runs for truth, (low, high) in zip(TRUTHS, _all(timings), strict=True)]
    assert 0.92 <= np.mean(every) <= 0.99


def _all(timings: list[PairedTiming]) -> list[tuple[float, float]]:
    return [timing.interval() for timing in timings]


def test_one_policy_is_timed_as_by_measure() -> None:
    one, _ = together(3, truths=(0.4,))
    machine = FakeMachine(0.4, 3)
    alone = Meter(MeterSettings(seed=10_003, max_seconds=12.0), clock=machine.clock)
    timing = alone.measure(machine.dense, machine.policy, FIXED)
    assert np.array_equal(one[0].dense_ns, timing.dense_ns)
    assert np.array_equal(one[0].policy_ns, timing.policy_ns)
    assert one[0].seconds == timing.seconds


def test_a_policy_whose_interval_is_narrow_leaves_the_rounds() -> None:
    calls: Counter[float] = Counter()
    machine = FakeMachine(1.0, 5)

    def unsteady(batch: Input) -> None:
        calls[0.6] += 1
        machine.take(batch, 0.6 * np.exp(0.3 * machine.rng.standard_normal()))

    def steady(batch: Input) -> None:
        calls[0.3] += 1
        machine.take(batch, 0.3)

    meter = Meter(MeterSettings(seed=1, max_seconds=60.0), clock=machine.clock)
    first, second = meter.measure_together(machine.dense, [steady, unsteady], FIXED)
    assert first.rounds < second.rounds
    assert calls[0.3] == (first.rounds + first.warmup_rounds) * len(FIXED)
    assert not first.noisy
    assert np.array_equal(first.dense_ns, second.dense_ns[: first.rounds])


def test_time_cap_is_of_each_pair_and_all_share_what_dense_takes() -> None:
    capped = {"half_width": 1e-6, "max_seconds": 4.0, "max_rounds": 10_000}
    timings, seconds = together(0, **capped)
    alone = [together(0, truths=(truth,), **capped) for truth in TRUTHS]
    for timing, ((single,), _) in zip(timings, alone, strict=True):
        assert timing.seconds == pytest.approx(4.0, abs=0.4)
        assert timing.rounds == pytest.approx(single.rounds, rel=0.15)
    assert seconds < 0.65 * sum(took for _, took in alone)


def test_all_see_the_same_dense_and_each_input_is_run_once_a_round_by_every_side() -> None:
    calls: list[tuple[str, int]] = []
    now = iter(range(0, 10**9, 1000))

    def side(name: str):
        return lambda batch: calls.append((name, batch))

    meter = Meter(MeterSettings(min_rounds=4, max_rounds=4), clock=lambda: next(now))
    found = meter.measure_together(side("dense"), [side("a"), side("b")], list(range(16)))
    assert np.array_equal(found[0].dense_ns, found[1].dense_ns)
    groups = [calls[start : start + 3] for start in range(0, len(calls), 3)]
    assert all(len({batch for _, batch in group}) == 1 for group in groups)
    assert all({name for name, _ in group} == {"dense", "a", "b"} for group in groups)
    firsts = Counter(group[0][0] for group in groups)
    assert min(firsts.values()) > 0.2 * len(groups)


def test_a_machine_that_becomes_slower_is_warm() -> None:
    timings, _ = together(0, drifting(0.5), noise=0.001)
    assert {(timing.warmup_rounds, timing.warmed_up) for timing in timings} == {(2, True)}
    faster, _ = together(0, lambda seconds, rng: 1 / (1 + 0.3 * seconds), noise=0.001)
    assert faster[0].warmup_rounds > 2


def test_nothing_to_time_is_refused() -> None:
    machine = FakeMachine(1.0, 0)
    with pytest.raises(MeasurementError, match="no policy"):
        Meter(clock=machine.clock).measure_together(machine.dense, [], FIXED)

"""The meter on a machine whose truth is known: is the estimate right, is the interval, is the verdict?"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from autoprune.errors import ConfigError, MeasurementError
from autoprune.latency.meter import Meter, MeterSettings, event_timer, interleave
from autoprune.latency.timing import PairedTiming
from autoprune.testing.fake_machine import FakeMachine, Input, Neighbour, bimodal, drifting, outliers, quiet

TRUTH = 0.4
FIXED = [Input(256)] * 4
MIXED = [Input(tokens) for tokens in (32, 64, 96, 128, 160, 192, 224, 256, 288)]
SCENARIOS: dict[str, Callable[[], Any]] = {
    "quiet": lambda: quiet,
    "drift": lambda: drifting(0.03),
    "outliers": lambda: outliers(0.05),
    "bimodal": lambda: bimodal(0.3),
    "even bimodal": lambda: bimodal(0.5),
    "sleeping neighbour": Neighbour,
}


def run(
    scenario: str, seed: int, statistic: str = "p50", inputs: list[Input] | None = None, **settings: Any
) -> PairedTiming:
    machine = FakeMachine(TRUTH, seed, SCENARIOS[scenario]())
    # Another seed than the machine's: order and noise must not come from the same numbers.
    wanted = MeterSettings(**{"seed": seed + 10_000, "max_seconds": 12.0, **settings})
    meter = Meter(wanted, clock=machine.clock)
    return meter.measure(machine.dense, machine.policy, FIXED if inputs is None else inputs, statistic)


def coverage(scenario: str, runs: int, statistic: str, inputs: list[Input]) -> tuple[float, float]:
    """Return how often the interval holds the truth, and the median estimate."""
    timings = [run(scenario, seed, statistic, inputs) for seed in range(runs)]
    held = [low <= TRUTH <= high for low, high in (timing.interval() for timing in timings)]
    return float(np.mean(held)), float(np.median([timing.ratio() for timing in timings]))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_estimate_and_interval_are_right(scenario: str) -> None:
    share, estimate = coverage(scenario, 200, "p50", FIXED)
    assert 0.90 <= share <= 0.99
    assert estimate == pytest.approx(TRUTH, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("inputs", [FIXED, MIXED], ids=["one length", "nine lengths"])
@pytest.mark.parametrize("statistic", ["p50", "p95"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_coverage_over_500_runs(scenario: str, statistic: str, inputs: list[Input]) -> None:
    share, estimate = coverage(scenario, 500, statistic, inputs)
    assert 0.90 <= share <= 0.99
    assert estimate == pytest.approx(TRUTH, rel=0.01)


def test_stops_when_the_interval_is_as_narrow_as_asked() -> None:
    timing = run("quiet", 1)
    assert timing.relative_half_width() <= 0.03
    assert timing.rounds < 40
    assert not timing.noisy
    narrower = run("quiet", 1, half_width=0.01, max_seconds=100.0)
    assert narrower.rounds > timing.rounds
    assert narrower.relative_half_width() <= 0.01


def test_under_a_reference_a_ratio_is_known_as_well_in_milliseconds() -> None:
    plain, small, tiny, large = (
        run("bimodal", 1, reference=reference, max_seconds=100.0) for reference in (0.0, TRUTH * 1.5, TRUTH * 5, 0.2)
    )
    assert [timing.wanted_half_width for timing in (plain, large)] == [0.03, 0.03]
    assert small.wanted_half_width == pytest.approx(0.045, rel=0.05)
    assert tiny.wanted_half_width == 0.06
    assert plain.rounds == large.rounds > small.rounds > tiny.rounds
    assert all(timing.narrow and not timing.noisy for timing in (plain, small, tiny, large))
    assert tiny.relative_half_width() > 0.03
    again = PairedTiming.from_bytes(tiny.to_bytes())
    assert (again.reference, again.noisy) == (tiny.reference, False)
    with pytest.raises(ConfigError, match="reference"):
        MeterSettings(reference=-1.0)


def test_half_of_the_time_is_kept_for_what_is_undecided() -> None:
    exact = {"half_width": 1e-6, "max_seconds": 8.0, "max_rounds": 10_000}
    plain, at_it, over, under = (run("bimodal", 1, reference=one, **exact) for one in (0.0, TRUTH, 0.5, 0.3))
    assert [timing.seconds for timing in (plain, at_it)] == pytest.approx([8.0, 8.0], abs=0.5)
    assert [timing.seconds for timing in (over, under)] == pytest.approx([4.0, 4.0], rel=0.3)
    assert over.interval()[1] < 0.5
    assert under.interval()[0] > 0.3
    assert over.noisy


def test_ending_when_decided_keeps_the_interval_right() -> None:
    intervals = []
    for seed in range(100):
        machine = FakeMachine(TRUTH, seed, Neighbour(), noise=0.2)
        settings = MeterSettings(half_width=0.01, max_seconds=20.0, reference=TRUTH, seed=seed + 10_000)
        intervals.append(Meter(settings, clock=machine.clock).measure(machine.dense, machine.policy, FIXED).interval())
    assert np.mean([low <= TRUTH <= high for low, high in intervals]) >= 0.91  # 0.86 if decided by the 95 % interval


def test_time_cap_ends_the_measurement_and_the_cause_is_named() -> None:
    timing = run("even bimodal", 3, max_seconds=4.0)
    assert timing.seconds < 5.0
    assert timing.noisy
    assert timing.noise_cause is not None
    assert "known to ±" in timing.noise_cause


def test_drifting_dense_is_noisy_and_the_cause_is_named() -> None:
    machine = FakeMachine(TRUTH, 0, drifting(0.25))
    timing = Meter(MeterSettings(), clock=machine.clock).measure(machine.dense, machine.policy, FIXED)
    assert timing.drift > 0.2
    assert timing.noise_cause is not None
    assert "slower" in timing.noise_cause
    assert timing.ratio() == pytest.approx(TRUTH, rel=0.05)  # pairing still finds the truth


def test_neighbour_that_wakes_up_halfway_is_noticed() -> None:
    machine = FakeMachine(TRUTH, 0, lambda seconds, rng: 1.8 if seconds > 2.5 else 1.0)
    timing = Meter(MeterSettings(min_rounds=15), clock=machine.clock).measure(machine.dense, machine.policy, FIXED)
    assert timing.drifted
    assert timing.noisy
    assert timing.ratio() == pytest.approx(TRUTH, rel=0.06)


def test_outliers_are_kept_and_counted() -> None:
    timing = run("outliers", 5, half_width=0.001, max_rounds=100, max_seconds=60.0)
    assert 0.02 < timing.outliers / (2 * timing.dense_ns.size) < 0.10
    assert timing.stats("dense").p99 > 1.5 * timing.stats("dense").p50


def test_order_is_random_and_pairs_stay_together() -> None:
    calls: list[tuple[str, int]] = []
    now = iter(range(0, 10**9, 1000))
    meter = Meter(MeterSettings(min_rounds=4, max_rounds=4), clock=lambda: next(now))
    meter.measure(lambda b: calls.append(("dense", b)), lambda b: calls.append(("policy", b)), list(range(16)))
    pairs = list(zip(calls[::2], calls[1::2], strict=True))
    assert all(one[1] == two[1] and one[0] != two[0] for one, two in pairs)
    first = [one[0] for one, _ in pairs]
    assert 0.2 < first.count("dense") / len(first) < 0.8
    rounds = [[one[1] for one, _ in pairs[start : start + 16]] for start in range(0, len(pairs), 16)]
    assert all(sorted(order) == list(range(16)) for order in rounds)
    assert len({tuple(order) for order in rounds}) == len(rounds)


def test_warm_up_ends_when_the_latency_is_stable() -> None:
    cold = FakeMachine(TRUTH, 0, noise=0.001, cold_calls=20)
    timing = Meter(MeterSettings(), clock=cold.clock).measure(cold.dense, cold.policy, FIXED)
    assert timing.warmup_rounds == 4  # 20 cold calls end in round 3 of 8 calls each, and round 4 is no faster
    assert timing.warmed_up
    assert timing.stats("dense").p99 < 60
    warm = FakeMachine(TRUTH, 0, noise=0.001)
    assert Meter(MeterSettings(), clock=warm.clock).measure(warm.dense, warm.policy, FIXED).warmup_rounds == 2


def test_slow_model_still_gets_three_rounds() -> None:
    machine = FakeMachine(TRUTH, 0, ms_per_token=100.0)
    timing = Meter(MeterSettings(max_seconds=1.0), clock=machine.clock).measure(
        machine.dense, machine.policy, FIXED[:1]
    )
    assert timing.rounds == 3


def test_bad_requests_are_refused() -> None:
    machine = FakeMachine(TRUTH, 0)
    meter = Meter(clock=machine.clock)
    with pytest.raises(MeasurementError, match="no input"):
        meter.measure(machine.dense, machine.policy, [])
    with pytest.raises(ConfigError, match="p42"):
        meter.measure(machine.dense, machine.policy, FIXED, "p42")
    with pytest.raises(ConfigError):
        MeterSettings(min_rounds=1)
    with pytest.raises(ConfigError):
        MeterSettings(half_width=0)
    frozen = Meter(MeterSettings(max_rounds=8), clock=lambda: 0)
    with pytest.raises(MeasurementError, match="stands still"):
        frozen.measure(lambda b: None, lambda b: None, FIXED)


def test_event_timer_counts_what_the_device_did() -> None:
    device = {"now": 0.0, "waits": 0}

    class Event:
        def record(self) -> None:
            self.at = device["now"]

        def elapsed_time(self, other: "Event") -> float:
            return other.at - self.at

    def work(batch: float) -> None:
        device["now"] += batch

    timer = event_timer(Event, lambda: device.update(waits=device["waits"] + 1))
    assert timer(work, 2.5) == 2_500_000
    assert device["waits"] == 2


def test_synchronize_is_called_before_and_after() -> None:
    log: list[str] = []
    machine = FakeMachine(TRUTH, 0)

    def dense(batch: Input) -> None:
        log.append("run")
        machine.dense(batch)

    meter = Meter(MeterSettings(max_rounds=8), clock=machine.clock, synchronize=lambda: log.append("wait"))
    meter.measure(dense, dense, FIXED[:1])
    assert log[:3] == ["wait", "run", "wait"]
    assert log.count("wait") == 2 * log.count("run")


def test_interleave_times_arms_in_turn() -> None:
    machine = FakeMachine(TRUTH, 0, drifting(1.0), noise=0.01)
    arms = {"short": lambda: machine.dense(Input(100)), "long": lambda: machine.dense(Input(200))}
    samples = interleave(arms, 20, clock=machine.clock)
    assert samples["short"].shape == samples["long"].shape == (20,)
    assert np.median(samples["long"] / samples["short"]) == pytest.approx(2.0, rel=0.05)
    few = interleave(arms, 50, clock=machine.clock, max_seconds=0.5)
    assert 2 <= few["long"].size < 50

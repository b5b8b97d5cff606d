"""Percentiles against numpy, the quantile of Student's t against tables, outliers and drift on built data."""

import numpy as np
import pytest

from autoprune.errors import ConfigError
from autoprune.latency import stats
from autoprune.latency.stats import LatencyStats


@pytest.mark.parametrize("statistic", ["p50", "p95", "p99"])
@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_row_statistic_equals_numpy_quantile(statistic: str, size: int) -> None:
    rows = np.random.default_rng(size).lognormal(size=(5, size))
    expected = np.quantile(rows, int(statistic[1:]) / 100, axis=1)
    np.testing.assert_allclose(stats.row_statistic(rows, statistic), expected)


def test_latency_stats_are_milliseconds() -> None:
    found = LatencyStats.of_ns(np.arange(1, 102) * 1_000_000)
    assert (found.p50, found.p95, found.mean, found.iqr) == (51.0, 96.0, 51.0, 50.0)
    assert LatencyStats.from_dict(found.to_dict()) == found
    assert found.get("p99") == 100.0


def test_unknown_statistic_is_refused() -> None:
    with pytest.raises(ConfigError, match="p90"):
        stats.check_statistic("p90")


def test_ratio_is_statistic_over_statistic() -> None:
    dense, policy = np.array([[10, 20, 90]]), np.array([[30, 4, 5]])
    assert stats.ratio(dense, policy, "p50") == 5 / 20
    assert stats.ratio(dense, policy, "mean") == 13 / 40


@pytest.mark.parametrize(
    ("probability", "degrees", "expected"),
    [(0.975, 7, 2.3646), (0.975, 30, 2.0423), (0.995, 10, 3.1693), (0.975, 4, 2.7764)],
)
def test_student_quantile_matches_tables(probability: float, degrees: int, expected: float) -> None:
    assert stats.student_quantile(probability, degrees) == pytest.approx(expected, rel=0.01)


def test_interval_holds_the_ratio_and_narrows_with_rounds() -> None:
    rng = np.random.default_rng(0)
    dense = 50 * rng.lognormal(sigma=0.05, size=(400, 4))
    policy = 20 * rng.lognormal(sigma=0.05, size=(400, 4))
    widths = []
    for rounds in (8, 50, 400):
        low, high = stats.ratio_interval(dense[:rounds], policy[:rounds], "p50")
        assert low <= stats.ratio(dense[:rounds], policy[:rounds], "p50") <= high
        widths.append(high - low)
    assert widths[0] > 1.5 * widths[1] > 2 * widths[2]


def test_interval_is_the_same_each_time() -> None:
    rng = np.random.default_rng(1)
    sides = rng.lognormal(size=(2, 10, 3))
    assert stats.ratio_interval(*sides, "p95") == stats.ratio_interval(*sides, "p95")


def test_one_round_says_nothing_about_noise() -> None:
    assert stats.ratio_interval([[10, 11]], [[5, 6]], "p50") == (0.0, float("inf"))


def test_shared_slowness_does_not_widen_the_interval() -> None:
    rng = np.random.default_rng(2)
    quiet = rng.lognormal(sigma=0.02, size=(2, 30, 4))
    moody = quiet * np.linspace(1, 2, 30)[None, :, None]
    widths = [np.ptp(stats.ratio_interval(*sides, "mean")) for sides in (quiet, moody)]
    assert widths[1] < 1.5 * widths[0]


def test_drift_compares_the_last_third_with_the_first() -> None:
    rounds = np.repeat([1.0, 1.2, 1.5], 4)[:, None] * np.array([[10.0, 300.0]])
    assert stats.drift(rounds) == pytest.approx(0.5)
    assert stats.drift(rounds[:2]) == 0.0


def test_outliers_are_far_out_for_their_own_input() -> None:
    rng = np.random.default_rng(3)
    samples = np.array([10.0, 1000.0]) * rng.lognormal(sigma=0.01, size=(50, 2))
    assert stats.count_outliers(samples) == 0
    samples[7, 0] = 40.0  # far under the other input's latency, but four times its own
    assert stats.count_outliers(samples) == 1

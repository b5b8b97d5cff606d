from types import SimpleNamespace

import pytest

from autoprune.engine.decision import decide, excess_ms
from autoprune.engine.promise import _undecided


@pytest.mark.parametrize(
    ("interval", "noisy", "verdict"),
    [
        ((0.30, 0.39), False, "met"),
        ((0.30, 0.39), True, "met"),
        ((0.39, 0.41), False, "not_met"),
        ((0.39, 0.41), True, "too_noisy"),
        ((0.41, 0.45), True, "not_met"),
    ],
)
def test_the_interval_decides(interval, noisy, verdict):
    assert decide(interval, 0.40, noisy) == verdict


def test_a_drifting_dense_decides_nothing():
    assert decide((0.30, 0.35), 0.40, noisy=True, drifted=True) == "too_noisy"


def test_constraint_is_milliseconds_over_the_limit():
    assert excess_ms({"ratio_ci95": [0.3, 0.45]}, 0.4, 50.0) == pytest.approx(2.5)
    assert excess_ms({"ratio_ci95": [0.3, 0.40]}, 0.4, 50.0) <= 0


@pytest.mark.parametrize(
    ("measured", "undecided"),
    [
        ([(0.39, 0.41, True)], True),
        ([(0.39, 0.41, False)], False),
        ([(0.39, 0.41, False), (0.1, 0.2, True)], False),  # what disturbed another policy says nothing of this one
        ([(None, None, True)], False),
    ],
)
def test_only_a_disturbed_measurement_that_holds_the_limit_leaves_it_open(measured, undecided):
    rows = [SimpleNamespace(ratio_lo=low, ratio_hi=high, noisy=noisy) for low, high, noisy in measured]
    store = SimpleNamespace(measurements=lambda study, kind, samples: rows)
    assert _undecided(store, "study", 0.40) is undecided

"""Where a front is least known: between neighbours that span a large rectangle for its latency."""

import numpy as np
import pytest

from autoprune.engine.samplers.gaps import draw_latency


def drawn(points, low, high, count=4000):
    latency, score = np.asarray(points, dtype=float).T
    rng = np.random.default_rng(0)
    return np.asarray([draw_latency(latency, score, low, high, rng) for _ in range(count)])


def shares(latencies, edges):
    return np.histogram(latencies, edges)[0] / len(latencies)


def test_gaps_are_drawn_by_their_area_per_latency():
    # Rectangles 2-4 and 4-8 gain 0.4 x 2 and 0.3 x 4, at a middle latency of 3 and 6; beyond them nothing is to gain.
    found = shares(drawn([(2.0, 0.2), (4.0, 0.6), (8.0, 0.9)], 2.0, 10.0), [2.0, 4.0, 8.0, 10.0])
    gains = np.asarray([0.8 / 3, 1.2 / 6])
    assert found[:2] == pytest.approx(gains / gains.sum(), abs=0.03)
    assert found[2] == 0


def test_only_the_middle_half_of_a_gap_is_drawn():
    found = drawn([(2.0, 0.2), (4.0, 0.6)], 2.0, 4.0)
    assert 2.5 <= found.min() < 2.6
    assert 3.4 < found.max() <= 3.5


def test_what_is_dominated_makes_no_gap_smaller():
    front = [(1.0, 0.1), (2.0, 0.2), (4.0, 0.6)]
    np.testing.assert_array_equal(drawn(front, 1.0, 5.0, 99), drawn([*front, (3.0, 0.1), (3.5, 0.2)], 1.0, 5.0, 99))


def test_below_the_fastest_the_front_may_fall_as_much_again_until_something_was_tried_there():
    unknown = [(2.0, 0.5), (4.0, 0.6)]
    below = shares(drawn(unknown, 1.0, 4.0), [1.0, 2.0, 4.0])[0]
    assert below == pytest.approx((0.1 / 3) / (0.1 / 3 + 0.2 / 6), abs=0.03)
    assert shares(drawn([(0.9, 0.499), *unknown], 1.0, 4.0), [1.0, 2.0, 4.0])[0] < 0.02


def test_above_the_slowest_the_front_may_rise_to_the_best_beyond_the_reach():
    found = drawn([(1.0, 0.5), (2.0, 0.5), (9.0, 0.9)], 1.0, 5.0)
    assert found.min() > 2.0
    assert found.max() < 5.0


def test_what_a_faster_policy_beats_bounds_no_gap():
    # 2.0 is slower and worse than what was found below the reach.
    found = drawn([(0.9, 0.5), (2.0, 0.3), (4.0, 0.6)], 1.0, 4.0)
    assert 1.75 <= found.min() < 1.8


def test_a_reach_of_one_latency_is_that():
    assert set(drawn([(2.0, 0.5), (4.0, 0.6)], 3.0, 3.0, 9)) == {3.0}


@pytest.mark.parametrize("points", [[(2.0, 0.5)], [(9.0, 0.9)], [(0.5, 0.5)], [(2.0, 0.5), (3.0, 0.5)]])
def test_without_a_rectangle_everything_is_possible(points):
    found = drawn(points, 1.0, 5.0)
    assert 1.0 < found.min() < 1.1
    assert 4.9 < found.max() < 5.0

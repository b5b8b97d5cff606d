"""Hypervolume: exact small cases, and rectangles counted by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprune.front.hypervolume import hypervolume

unit = st.floats(0, 1)


def test_small_cases() -> None:
    assert hypervolume([0.5], [0.8], latency_reference=1.0) == pytest.approx(0.4)
    assert hypervolume([0.5, 0.2], [0.9, 0.5], latency_reference=1.0) == pytest.approx(0.5 * 0.9 + 0.3 * 0.5)
    assert hypervolume([0.5], [0.8], latency_reference=1.0, score_reference=0.3) == pytest.approx(0.25)
    assert hypervolume([], [], latency_reference=1.0) == 0.0


def test_points_beyond_the_reference_add_nothing() -> None:
    assert hypervolume([1.5, 0.5], [0.99, 0.8], latency_reference=1.0) == pytest.approx(0.4)
    assert hypervolume([1.5], [0.99], latency_reference=1.0) == 0.0
    assert hypervolume([0.5], [-0.1], latency_reference=1.0) == 0.0


def test_infeasible_points_add_nothing() -> None:
    assert hypervolume([0.5, 0.1], [0.8, 0.9], latency_reference=1.0, feasible=[True, False]) == pytest.approx(0.4)


@given(st.lists(st.tuples(unit, unit), max_size=12))
def test_is_the_area_under_the_staircase(rows: list[tuple[float, float]]) -> None:
    edges = sorted({0.0, 1.0, *(latency for latency, _ in rows)})
    area = sum(
        (right - left) * max((score for latency, score in rows if latency <= left), default=0.0)
        for left, right in zip(edges, edges[1:])
    )
    found = hypervolume([row[0] for row in rows], [row[1] for row in rows], latency_reference=1.0)
    assert found == pytest.approx(area, abs=1e-12)

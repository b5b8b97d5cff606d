"""The front against brute force and against Optuna itself."""

import math

import optuna
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from autoprune.errors import InputError
from autoprune.front.pareto import knee, non_dominated, pick_best, ties

# Few distinct values, so that equal points and equal coordinates are common.
coordinate = st.one_of(st.integers(0, 5).map(float), st.floats(-1e6, 1e6), st.sampled_from([math.inf, -math.inf]))
points = st.lists(st.tuples(coordinate, coordinate, st.booleans()), max_size=40)


def dominates(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return a[0] <= b[0] and a[1] >= b[1] and a != b


def by_hand(rows: list[tuple[float, float, bool]]) -> list[int]:
    return [
        i for i, (latency, score, allowed) in enumerate(rows)
        if allowed and not any(dominates(other[:2], (latency, score)) for other in rows if other[2])
    ]  # fmt: skip


def split(rows: list[tuple[float, float, bool]]) -> tuple[list[float], list[float], list[bool]]:
    return [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]


@given(points)
@example([(1.0, 1.0, True), (1.0, 1.0, True), (0.0, 1.0, False)])
@example([(1.0, 0.5, True), (1.0, 0.9, True), (1.0, 0.9, True)])
def test_front_is_the_brute_force_one(rows: list[tuple[float, float, bool]]) -> None:
    assert non_dominated(*split(rows)) == by_hand(rows)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.booleans()), min_size=1, max_size=25))
def test_front_is_optunas_best_trials(rows: list[tuple[int, int, bool]]) -> None:
    study = optuna.create_study(directions=["minimize", "maximize"])
    study.add_trials(
        [optuna.create_trial(values=[a, b], constraints={"budget": 0.0 if ok else 1.0}) for a, b, ok in rows]
    )
    assert non_dominated(*split(rows)) == sorted(trial.number for trial in study.best_trials)


@given(points, st.one_of(st.none(), coordinate))
def test_best_is_the_highest_score_within_the_limit(rows: list[tuple[float, float, bool]], limit: float | None) -> None:
    allowed = [(s, -lat, -i) for i, (lat, s, ok) in enumerate(rows) if ok and (limit is None or lat <= limit)]
    assert pick_best(*split(rows), limit) == (-max(allowed)[2] if allowed else None)


def test_nan_takes_no_part() -> None:
    assert non_dominated([1.0, math.nan, 2.0], [0.5, 9.0, math.nan]) == [0]
    assert pick_best([math.nan], [1.0]) is None
    assert non_dominated([], []) == []


def test_different_lengths_are_refused() -> None:
    with pytest.raises(InputError, match="one length"):
        non_dominated([1.0], [1.0, 2.0])
    with pytest.raises(InputError):
        pick_best([1.0], [1.0], [True, False])


def test_knee_is_the_bend() -> None:
    assert knee([1, 2, 3, 10], [0.5, 0.9, 0.92, 1.0]) == 1
    # Units do not matter.
    assert knee([1e-3, 2e-3, 3e-3, 1e-2], [50, 90, 92, 100]) == 1
    # Dominated and infeasible points neither.
    assert knee([1, 2, 3, 10, 9, 0], [0.5, 0.9, 0.92, 1.0, 0.1, 2.0], [1, 1, 1, 1, 1, 0]) == 1
    assert knee([1, 2], [0.5, 0.6]) == 1
    assert knee([], []) is None


@given(points)
def test_knee_is_on_the_front(rows: list[tuple[float, float, bool]]) -> None:
    found = knee(*split(rows))
    front = by_hand(rows)
    assert (found is None and not front) or found in front


def test_ties_need_overlap_in_both_values() -> None:
    low, high = [1.0, 1.5, 5.0], [2.0, 2.5, 6.0]
    assert ties(low, high, [0.0, 0.5, 0.0], [1.0, 1.5, 1.0]) == [True, True, False]
    assert ties(low, high, [0.0, 2.0, 0.0], [1.0, 3.0, 1.0]) == [False, False, False]
    assert ties([1.0], [2.0], [0.0], [1.0]) == [False]
    assert ties([], [], [], []) == []

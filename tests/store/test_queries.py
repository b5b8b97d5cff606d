"""Fronts for any budget and questions across studies, on SQLite and PostgreSQL."""

import random

import pytest

from autoprune.front.pareto import non_dominated
from autoprune.policy import PruningPolicy, Stage
from autoprune.store import EvaluationRow, MeasurementRow, Store, StudyRecord
from autoprune.testing.studies import study_record


def fill(
    store: Store, name: str, values: list[tuple[float, float, float]], statistic: str = "p50", **facts: object
) -> None:
    """Write a study whose trials have these (latency, upper end, score)."""
    store.create_study(StudyRecord(**{**vars(study_record(name)), **facts}))
    with store.transaction():
        for trial, (latency, upper, score) in enumerate(values):
            policy = PruningPolicy(stages=(Stage("input", "lexicon", keep=(trial + 1) / (len(values) + 1)),))
            digest = store.add_policy(policy)
            store.add_evaluation(name, trial, digest, EvaluationRow(1000, True, score))
            row = MeasurementRow("search", {}, latency / 50, 0.0, upper / 50, statistic, latency_ms=latency)
            store.add_measurement(name, trial, digest, row)


def front_by_hand(values: list[tuple[float, float, float]], limit: float | None) -> list[int]:
    feasible = [limit is None or latency * (upper / 50) / (latency / 50) <= limit for latency, upper, _ in values]
    return non_dominated([value[0] for value in values], [value[2] for value in values], feasible)


@pytest.mark.parametrize("seed", range(6))
def test_front_of_every_budget_is_the_brute_force_one(store: Store, seed: int) -> None:
    random.seed(seed)
    # Coarse values, so that equal points and equal coordinates occur.
    values = [
        (latency, latency + random.choice([0, 1, 5]), random.randint(0, 8) / 8)
        for latency in (random.randint(1, 12) for _ in range(40))
    ]
    fill(store, "s", values)
    for limit in (None, *range(18)):
        found = store.front("s", limit)
        assert sorted(point.trial for point in found) == front_by_hand(values, limit), limit
        assert [point.latency_ms for point in found] == sorted(point.latency_ms for point in found)


def test_front_keeps_a_slow_policy_whose_interval_is_narrow(store: Store) -> None:
    # Trial 0 beats trial 1 in both values, but a budget of 15 refuses it: its interval reaches 16.
    fill(store, "s", [(10.0, 16.0, 0.9), (11.0, 12.0, 0.8)])
    assert [point.trial for point in store.front("s", 15.0)] == [1]
    assert [point.trial for point in store.front("s", 16.0)] == [0]


def test_incomplete_evaluations_are_on_no_front(store: Store) -> None:
    store.create_study(study_record("s"))
    digest = store.add_policy(PruningPolicy())
    store.add_evaluation("s", 1, digest, EvaluationRow(64, False, 0.99))
    store.add_measurement("s", 1, digest, MeasurementRow("search", {}, 0.1, latency_ms=5.0))
    store.add_measurement("s", 1, digest, MeasurementRow("verify", {}, 0.1, latency_ms=5.0))
    assert store.front("s") == []
    store.add_evaluation("s", 1, digest, EvaluationRow(1000, True, 0.8))
    assert [(point.score, point.latency_ms, point.latency_hi_ms) for point in store.front("s")] == [(0.8, 5.0, 5.0)]


def test_statistics_do_not_mix(store: Store) -> None:
    fill(store, "s", [(10.0, 10.0, 0.9)], statistic="p95")
    assert store.front("s") == []  # the study's budget is on p50
    assert [point.trial for point in store.front("s", 12.0, "p95")] == [0]


def test_best_over_studies(store: Store) -> None:
    here = study_record("x").hardware
    fill(store, "a", [(10.0, 10.5, 0.90), (18.0, 18.5, 0.95)])
    fill(store, "b", [(12.0, 12.5, 0.93)])
    fill(store, "elsewhere", [(5.0, 5.0, 0.99)], hardware={"digest": "feedbeef", "describe": "GPU"})
    fill(store, "other task", [(5.0, 5.0, 0.98)], task={"name": "reviews"})
    found = store.best(15.0, model="all-MiniLM-L6-v2", task="minilm-docstrings", hardware=here["digest"])
    assert [(point.study, point.score) for point in found] == [("b", 0.93), ("a", 0.90)]
    assert [point.study for point in store.best(15.0, limit=2)] == ["elsewhere", "other task"]
    assert store.best(1.0) == []
    assert [point.study for point in store.best(15.0, hardware="feed")] == ["elsewhere"]


def test_studies_are_filtered(store: Store) -> None:
    fill(store, "a", [(10.0, 10.5, 0.9)])
    fill(store, "b", [], model={"name": "other", "digest": "d1"}, status="met", hardware={"digest": "feedbeef"})
    assert [summary.name for summary in store.list_studies()] == ["b", "a"]
    assert [summary.name for summary in store.list_studies(model="other")] == ["b"]
    assert [summary.name for summary in store.list_studies(model="53aa")] == ["a"]
    assert [summary.name for summary in store.list_studies(hardware="feedbeef", status="met")] == ["b"]
    assert store.list_studies(hardware="%") == []
    assert {summary.name: summary.n_points for summary in store.list_studies()} == {"a": 1, "b": 0}
    assert store.list_studies(model="other")[0].to_dict()["digests"]["hardware"] == "feedbeef"


def test_history_of_a_policy(store: Store) -> None:
    fill(store, "a", [(10.0, 10.5, 0.9)])
    fill(store, "b", [(30.0, 31.0, 0.8)])
    digest = store.front("a")[0].digest
    rows = store.history(digest[:16])
    assert [(row["study"], row["what"]) for row in rows] == [
        ("a", "evaluation"), ("a", "measurement"), ("b", "evaluation"), ("b", "measurement"),
    ]  # fmt: skip
    assert rows[3]["latency_ms"] == 30.0
    assert store.history("ffff") == []

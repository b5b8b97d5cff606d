"""Round trips of everything the store keeps, on SQLite and PostgreSQL."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from autoprune.errors import AmbiguousStudyError, StoreError, StudyNotFoundError
from autoprune.policy import PruningPolicy, Stage
from autoprune.store import EvaluationRow, FrontRow, MeasurementRow, Store, StudyRecord
from autoprune.testing.studies import study_record

POLICY = PruningPolicy(stages=(Stage("input", "lexicon", keep=0.5),))


@pytest.fixture
def named(store: Store) -> Store:
    """A store with the study ``s`` and one policy."""
    store.create_study(study_record("s"))
    store.add_policy(POLICY)
    return store


def evaluation(score: float | None = 0.9, **more: object) -> EvaluationRow:
    return EvaluationRow(**{"n_examples": 1000, "complete": True, "score": score} | more)  # type: ignore[arg-type]


def measurement(ratio: float, **more: object) -> MeasurementRow:
    facts = {"kind": "search", "stats": {"dense": {"p50": 50.0}, "policy": {"p50": 50 * ratio}}, "ratio": ratio}
    return MeasurementRow(**facts | {"ratio_lo": ratio * 0.98, "ratio_hi": ratio * 1.02} | more)  # type: ignore[arg-type]


def test_study_comes_back_as_it_went_in(store: Store) -> None:
    record = study_record("s")
    before = datetime.now(UTC)
    store.create_study(record)
    found = store.require_study("s")
    for field in (
        "name",
        "search_key",
        "task",
        "model",
        "workload",
        "hardware",
        "budget",
        "config",
        "versions",
        "status",
    ):
        assert getattr(found, field) == getattr(record, field), field
    assert list(found.config["probe"]) == list(record.config["probe"])  # the order of keys survives too
    assert found.result is None
    assert found.created_at is not None
    assert before - timedelta(seconds=1) <= found.created_at <= datetime.now(UTC)


def test_unknown_study_names_the_nearest(named: Store) -> None:
    named.create_study(study_record("minilm-docstrings-1a2b3c4d"))
    assert named.get_study("nothing") is None
    with pytest.raises(StudyNotFoundError, match="minilm-docstrings-1a2b3c4d"):
        named.require_study("minilm-docstring-1a2b3c4d")
    assert named.find_study("minilm").name == "minilm-docstrings-1a2b3c4d"
    with pytest.raises(StudyNotFoundError):
        named.find_study("")


def test_a_beginning_of_several_studies_is_ambiguous(named: Store) -> None:
    names = [f"minilm-docstrings-{i}" for i in range(7)]
    for name in names:
        named.create_study(study_record(name))
    with pytest.raises(AmbiguousStudyError, match="ambiguous") as caught:
        named.find_study("minilm-doc")
    assert all(name in caught.value.message for name in names[:5])
    assert "2 more" in caught.value.message
    assert isinstance(caught.value, StudyNotFoundError)
    assert named.find_study(names[3]).name == names[3]


def test_a_study_without_dense_has_no_figures(named: Store) -> None:
    with pytest.raises(StoreError, match="holds no figures") as caught:
        named.find_measured_study("s")
    assert "Repeat the search command" in caught.value.hint
    dense = named.add_policy(PruningPolicy())
    named.add_measurement("s", 0, dense, MeasurementRow("probe", {"dense": {"p50": 48.0}}, 1.0, latency_ms=48.0))
    assert named.find_measured_study("s").name == "s"


def test_a_name_is_taken_once_and_nothing_is_half_written(named: Store) -> None:
    other = study_record("s", limit_ms=1.0)
    with pytest.raises(StoreError, match="already"):
        named.create_study(StudyRecord(**{**vars(other), "task": {"name": "another"}}))
    assert named.require_study("s").budget == study_record("s").budget
    assert named.list_studies(task="another") == []
    assert [found.name for found in named.find_by_search_key(other.search_key)] == ["s"]


def test_result_is_stored_with_status(named: Store) -> None:
    result = {
        "status": "met",
        "best": {"latency_ms": {"p50": 18.5}, "score": 0.9},
        "nan": math.nan,
        "n": np.float32(0.5),
    }
    named.set_result("s", "met", result)
    found = named.require_study("s")
    assert found.status == "met"
    assert found.result == result | {"nan": None, "n": 0.5}
    assert list(found.result) == list(result)
    summary = named.list_studies()[0]
    assert (summary.best_latency_ms, summary.best_score, summary.status) == (18.5, 0.9, "met")
    named.set_result("s", "running", None)
    assert named.require_study("s").result == found.result


def test_numbers_come_back_with_their_samples(named: Store) -> None:
    quality = evaluation(
        0.91, drop=0.03, drop_lo=0.02, drop_hi=0.04, agreement=0.95, kl=0.1, seconds=2.0, per_example=b"\0\1"
    )
    cost = measurement(0.4, flops=1e9, memory=5e6, noisy=True, samples=b"\2\3", extra={"predicted_ms": 19.5})
    evaluation_id = named.add_evaluation("s", 3, POLICY.digest(), quality)
    named.add_measurement("s", 3, POLICY.digest(), cost)
    [found], [timed] = named.evaluations("s"), named.measurements("s")
    assert found.id == evaluation_id
    assert (found.study, found.trial, found.digest) == ("s", 3, POLICY.digest())
    for name, value in vars(quality).items():
        assert getattr(found, name) == value, name
    for name, value in vars(cost).items():
        if name != "latency_ms":
            assert getattr(timed, name) == value, name
    assert timed.latency_ms == 20.0
    assert named.evaluations("s", samples=False)[0].per_example is None
    assert named.measurements(digest=POLICY.digest()[:10])[0].id == timed.id
    assert named.measurements("s", kind="verify") == []


def test_numbers_are_added_never_changed(named: Store) -> None:
    for score in (0.8, 0.9):
        named.add_evaluation("s", 1, POLICY.digest(), evaluation(score))
        named.add_measurement("s", 1, POLICY.digest(), measurement(score / 2))
    assert [row.score for row in named.evaluations("s")] == [0.8, 0.9]
    assert [row.ratio for row in named.measurements("s")] == [0.4, 0.45]
    # What was told first stays: fronts do not move when something is measured again.
    assert [(point.score, point.ratio) for point in named.points("s")] == [(0.8, 0.4)]


def test_nan_is_no_score(named: Store) -> None:
    named.add_evaluation("s", 1, POLICY.digest(), evaluation(math.nan, kl=np.float64(0.25)))
    named.add_measurement("s", 1, POLICY.digest(), measurement(0.5))
    [found] = named.evaluations("s")
    assert (found.score, found.kl) == (None, 0.25)
    assert named.points("s") == []


def test_unknown_policy_and_study_are_refused(named: Store) -> None:
    with pytest.raises(StoreError, match="add_policy"):
        named.add_evaluation("s", 1, "0" * 64, evaluation())
    with pytest.raises(StudyNotFoundError):
        named.add_measurement("t", 1, POLICY.digest(), measurement(0.5))
    assert named.evaluations() == named.measurements() == []


def test_absolute_latency_uses_the_dense_of_the_probe(named: Store) -> None:
    dense = PruningPolicy()
    named.add_policy(dense)
    named.add_measurement("s", 0, dense.digest(), measurement(1.0, kind="probe"))
    # The machine is 10 % slower by now: the ratio counts, not the milliseconds of the day.
    drifted = {"dense": {"p50": 55.0}, "policy": {"p50": 22.0}}
    named.add_measurement("s", 1, POLICY.digest(), measurement(0.4, stats=drifted))
    assert [row.latency_ms for row in named.measurements("s")] == [50.0, 20.0]


def test_transaction_is_all_or_nothing(named: Store) -> None:
    with pytest.raises(RuntimeError, match="stop"), named.transaction():
        named.add_evaluation("s", 1, POLICY.digest(), evaluation())
        assert len(named.evaluations("s")) == 1
        raise RuntimeError("stop")
    assert named.evaluations("s") == []


def test_policies_are_kept_once_and_found_by_prefix(named: Store) -> None:
    assert named.add_policy(POLICY) == POLICY.digest()
    assert named.get_policy(POLICY.digest()[:12]) == POLICY.to_dict()
    assert list(named.get_policy(POLICY.digest()) or {}) == list(POLICY.to_dict())
    assert named.get_policy("%") is None
    named.add_policy(PruningPolicy())
    assert named.get_policy("") is None  # two fit


def test_tables_profiles_and_cost_tables(store: Store) -> None:
    store.put_table("sha256:aa", b"\0\xff")
    store.put_table("sha256:aa", b"other")
    assert store.get_table("sha256:aa") == b"\0\xff"
    assert store.get_table("sha256:bb") is None
    store.put_cost_table("hw", "model", "load", {"ms": [1, 2]})
    store.put_cost_table("hw", "model", "load", {"ms": [3, 4]})
    assert store.get_cost_table("hw", "model", "load") == {"ms": [3, 4]}
    assert store.get_cost_table("other", "model", "load") is None
    store.put_profile("model", "task", {"harm": 1})
    assert store.get_profile("model", "task") == {"harm": 1}
    assert store.profiles() == [("model", "task", {"harm": 1})]
    first, second = (f"harm:{'f' * 64}:sha256:{'a' * 63}{end}" for end in "bc")  # as guiding.py names a profile
    store.put_profile("model", first, {"harm": 2})
    assert (store.get_profile("model", first), store.get_profile("model", second)) == ({"harm": 2}, None)
    assert store.profiles()[-1][1].startswith(f"harm:{'f' * 64}:")


def test_fronts_are_new_row_sets(named: Store) -> None:
    rows = [FrontRow(4, POLICY.digest(), 18.0, 0.9, True, {"trial": 4, "policy": {"b": 1, "a": 2}}),
            FrontRow(2, POLICY.digest(), 20.0, 0.95)]  # fmt: skip
    assert named.load_front("s", "front") is None
    named.save_front("s", "front", rows[1:], "first", 0.1)
    named.save_front("s", "front", rows, "second", 0.2)
    named.save_front("s", "verified", rows[:1], "again")
    newest = named.load_front("s", "front")
    assert newest is not None
    assert (newest.why, newest.hypervolume, newest.rows) == ("second", 0.2, tuple(rows))
    assert [front.why for front in named.fronts("s")] == ["first", "second", "again"]


def test_delete_takes_the_study_and_leaves_what_others_use(named: Store) -> None:
    named.create_study(study_record("t"))
    for study in ("s", "t"):
        named.add_evaluation(study, 1, POLICY.digest(), evaluation(per_example=b"x"))
        named.add_measurement(study, 1, POLICY.digest(), measurement(0.5, samples=b"y"))
        named.save_front(study, "front", [FrontRow(1, POLICY.digest(), 25.0, 0.9)], "why")
    named.delete_study("s")
    assert named.get_study("s") is None
    assert [row.study for row in named.evaluations()] == [row.study for row in named.measurements()] == ["t"]
    assert [point.study for point in named.best(100.0)] == ["t"]
    assert named.get_policy(POLICY.digest()) is not None
    with pytest.raises(StudyNotFoundError):
        named.delete_study("s")

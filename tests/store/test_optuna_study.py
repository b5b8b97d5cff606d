"""What any Optuna client finds in the database, on SQLite and PostgreSQL."""

import warnings

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy import text

from autoprune.store import Store
from autoprune.store.optuna_study import open_optuna_study, reopen_stale, set_constraint
from autoprune.testing.studies import make_study


def test_best_trials_are_our_front(store: Store, url: str) -> None:
    made = make_study(store, n_trials=30)
    inside = {point.trial for point in store.front(made.name, made.limit_ms)}
    loaded = optuna.load_study(study_name=made.name, storage=store.address.url)
    assert {trial.number for trial in loaded.best_trials} == inside
    assert len(inside) >= 3
    # The budget matters: without the constraint the front is another one.
    assert {point.trial for point in store.front(made.name)} != inside
    stored = store.load_front(made.name, "front")
    assert stored is not None
    assert {row.trial for row in stored.rows} == inside
    told = {trial.number: tuple(trial.values) for trial in loaded.best_trials}
    assert {row.trial: (row.latency_ms, row.score) for row in stored.rows} == told


def test_objectives_are_named(store: Store) -> None:
    study = open_optuna_study(store, "s")
    again = open_optuna_study(store, "s")
    assert again.metric_names == ["latency_ms", "score"]
    assert [direction.name for direction in again.directions] == ["MINIMIZE", "MAXIMIZE"]
    assert study.study_name == again.study_name


def test_constraint_is_written_for_optuna_and_for_the_dashboard(store: Store) -> None:
    study = open_optuna_study(store, "s")
    trial = study.ask()
    set_constraint(trial, 1.5)
    study.tell(trial, [21.5, 0.9])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        [found] = study.get_trials()
        assert found.system_attrs["constraints"] == [1.5]
        assert found.constraints["budget"] == 1.5
        assert study.best_trials == []
    with pytest.raises(ValueError, match="NaN"):
        set_constraint(study.ask(), float("nan"))


@pytest.mark.parametrize("sampler", ["TPESampler", "NSGAIISampler", "RandomSampler"])
def test_samplers_accept_the_double_constraint(sqlite_url: str, sampler: str) -> None:
    with Store.open(sqlite_url) as store:
        study = open_optuna_study(store, "s", getattr(optuna.samplers, sampler)(seed=0))
        for _ in range(12):
            trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
            set_constraint(trial, trial.params["x"] - 0.5)
            study.tell(trial, [trial.params["x"], trial.params["x"]])
        assert {trial.params["x"] <= 0.5 for trial in study.best_trials} == {True}


def test_stale_trials_are_asked_again_before_all_that_wait(store: Store) -> None:
    study = open_optuna_study(store, "s", optuna.samplers.RandomSampler(seed=0))
    done, dead, early = study.ask(), study.ask(), study.ask()
    done.suggest_float("x", 0, 1)
    study.tell(done, [1.0, 1.0])
    value = dead.suggest_float("x", 0, 1)
    dead.set_user_attr("note", "kept")
    study.enqueue_trial({"x": 0.25})
    again = open_optuna_study(store, "s", optuna.samplers.RandomSampler(seed=1))
    reopen_stale(again)
    assert [trial.state for trial in again.get_trials()] == [TrialState.COMPLETE, *[TrialState.WAITING] * 3]
    asked = [again.ask({"x": optuna.distributions.FloatDistribution(0, 1)}) for _ in range(3)]
    assert [trial.number for trial in asked] == [dead.number, early.number, 3]
    assert (asked[0].params, asked[0].user_attrs) == ({"x": value}, {"note": "kept"})
    assert asked[2].params == {"x": 0.25}


def test_both_engines_have_the_settings(sqlite_url: str) -> None:
    with Store.open(sqlite_url) as store:
        for engine in (store.engine, store.storage.engine):
            with engine.connect() as connection:
                pragmas = [connection.execute(text(f"PRAGMA {name}")).scalar()
                           for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")]  # fmt: skip
            assert pragmas == ["wal", 1, 1, 30000]


def test_our_tables_leave_optunas_alone(store: Store) -> None:
    from sqlalchemy import inspect

    before = set(inspect(store.engine).get_table_names())
    assert all(name.startswith("ap_") for name in before)
    assert store.storage.get_current_version() == store.storage.get_head_version()
    after = set(inspect(store.engine).get_table_names()) - before
    assert {"studies", "trials", "alembic_version"} <= after
    assert not any(name.startswith("ap_") for name in after)


def test_delete_removes_optunas_study(store: Store) -> None:
    made = make_study(store, n_trials=3)
    store.delete_study(made.name)
    assert optuna.get_all_study_names(store.address.url) == []


def test_braces_and_percent_in_the_path(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "odd {SCHEMA_VERSION} 100% & ü" / "a.db"
    with Store.open(path) as store:
        make_study(store, n_trials=2)
        assert [summary.n_points for summary in store.list_studies()] == [3]
    assert path.exists()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [path.parent.name]

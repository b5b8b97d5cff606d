"""``db path``, ``db check`` and ``db vacuum``."""

import contextlib
import os
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import text

from autoprune.errors import StoreError
from autoprune.policy import PruningPolicy
from autoprune.store import MeasurementRow, Store, engine, upkeep
from autoprune.testing.studies import make_study, study_record


def failed(store: Store) -> list[str]:
    return [finding.what for finding in upkeep.check(store) if not finding.ok]


def test_path_opens_nothing(tmp_path: Path) -> None:
    assert upkeep.path(tmp_path / "a.db") == str(tmp_path / "a.db")
    assert upkeep.path("postgresql://me:geheim@host/d") == "postgresql://me:***@host/d"
    assert list(tmp_path.iterdir()) == []


def test_check_finds_nothing_wrong(store: Store) -> None:
    make_study(store, n_trials=5)
    store.create_study(study_record("ended with the probe"))  # has no Optuna study, and needs none
    assert failed(store) == []


def test_check_finds_a_changed_policy_and_a_wrong_index(store: Store) -> None:
    make_study(store, n_trials=12)
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE ap_policy SET policy = '{\"version\": 1}' WHERE described LIKE 'input%'"))
    assert failed(store) == ["policies"]
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE ap_point SET candidate = NOT candidate"))
    assert failed(store) == ["policies", "fronts"]


def test_check_finds_a_lost_optuna_study(store: Store) -> None:
    from autoprune.store.optuna_study import delete_optuna_study

    made = make_study(store, n_trials=3)
    delete_optuna_study(store.storage, made.name)
    assert failed(store) == ["optuna"]


def test_check_finds_loose_rows(sqlite_url: str) -> None:
    with Store.open(sqlite_url) as store:
        make_study(store, n_trials=3)
        with contextlib.closing(sqlite3.connect(sqlite_url)) as raw, raw:
            raw.execute("DELETE FROM ap_evaluation")
            raw.execute("DELETE FROM ap_task")
        assert "references" in failed(store)


def test_vacuum_gives_space_back_and_keeps_everything(store: Store) -> None:
    made = make_study(store, n_trials=5)
    store.create_study(study_record("big"))
    digest = store.add_policy(PruningPolicy())
    with store.transaction():
        for _ in range(100):
            store.add_measurement("big", None, digest, MeasurementRow("bench", {}, samples=os.urandom(5000)))
    store.delete_study("big")
    front = store.front(made.name)
    done = upkeep.vacuum(store)
    if store.address.path is not None:
        assert done["bytes_after"] < done["bytes_before"] / 2
    assert store.front(made.name) == front
    assert failed(store) == []


def test_vacuum_of_a_locked_database(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_MS", 50)
    with Store.open(sqlite_url) as store, contextlib.closing(sqlite3.connect(sqlite_url)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"):
            upkeep.vacuum(store)

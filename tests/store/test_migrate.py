"""Schemas: every released one opens, models and migrations agree, a failed migration leaves nothing."""

import re
import shutil
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect

from autoprune.errors import SchemaVersionError
from autoprune.store import Store, migrate, upkeep
from autoprune.store.engine import make_engine
from autoprune.store.tables import Base
from autoprune.store.urls import parse

GOLDEN = Path(__file__).parent / "golden"


def test_head_is_the_newest_migration() -> None:
    script = ScriptDirectory.from_config(migrate.alembic_config())
    assert script.get_current_head() == migrate.HEAD
    assert sorted(revision.revision for revision in script.walk_revisions()) == sorted(migrate.KNOWN)


def test_every_released_schema_has_its_golden_database() -> None:
    assert {path.stem for path in GOLDEN.glob("*.db")} == set(migrate.KNOWN)


@pytest.mark.parametrize("version", migrate.KNOWN)
def test_golden_database_opens_with_all_it_holds(version: str, tmp_path: Path) -> None:
    path = tmp_path / "golden.db"
    shutil.copy(GOLDEN / f"{version}.db", path)
    with Store.open(path) as store:
        record = store.require_study("golden")
        assert record.status == "met"
        assert record.result is not None
        assert [finding.what for finding in upkeep.check(store) if not finding.ok] == []
        assert len(store.points("golden")) == 6
        best = record.result["best"]
        inside = store.front("golden", record.budget["limit_ms"])
        assert max(point.score for point in inside) == best["score"]
        assert all(row.samples for row in store.measurements("golden"))
        stored = store.load_front("golden", "verified")
        assert stored is not None
        assert stored.rows


def test_models_and_migrations_agree(store: Store) -> None:
    with store.engine.connect() as connection:
        options = {"version_table": migrate.VERSION_TABLE, "compare_type": True,
                   "include_name": lambda name, kind, _parents: kind != "table" or name.startswith("ap_")}  # fmt: skip
        assert compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata) == []


def test_second_opening_changes_nothing(sqlite_url: str) -> None:
    Store.open(sqlite_url).close()
    before = Path(sqlite_url).read_bytes()
    Store.open(sqlite_url).close()
    assert Path(sqlite_url).read_bytes() == before


def test_failed_migration_is_undone(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = command.upgrade

    def fail_late(*args: object) -> None:
        real(*args)  # type: ignore[arg-type]
        raise RuntimeError("power cut")

    with monkeypatch.context() as patched:
        patched.setattr(command, "upgrade", fail_late)
        with pytest.raises(RuntimeError, match="power cut"):
            Store.open(url)
    engine = make_engine(parse(url))
    assert inspect(engine).get_table_names() == []
    engine.dispose()
    with Store.open(url) as store:
        assert store.list_studies() == []


def test_old_schema_is_not_opened_read_only(tmp_path: Path) -> None:
    (tmp_path / "a.db").touch()
    with pytest.raises(SchemaVersionError, match="read-only"):
        Store.open(f"sqlite:///file:{tmp_path}/a.db?mode=ro")


def test_upgrade_reports_versions(url: str) -> None:
    first = upkeep.upgrade(url)
    assert (first["from"], first["to"]) == (None, migrate.HEAD)
    assert first["optuna_from"] == first["optuna_to"]
    assert upkeep.upgrade(url)["from"] == migrate.HEAD
    assert "geheim" not in str(first)


def test_two_processes_may_make_the_tables_at_once(url: str, run_code) -> None:  # type: ignore[no-untyped-def]
    code = """
import sys
from autoprune.store import Store
import optuna.storages, alembic.command
print("ready", flush=True)
sys.stdin.readline()
with Store.open(sys.argv[1]) as store:
    print(len(store.storage.get_all_studies()), flush=True)
"""
    processes = [run_code(code, url) for _ in range(2)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate()[0] for process in processes] == ["0\n"] * 2


def test_only_the_store_imports_the_database() -> None:
    package = Path(migrate.__file__).parent.parent
    found = [
        path for path in package.rglob("*.py")
        if "store" not in path.relative_to(package).parts[:1]
        and re.search(r"^\s*(from|import) (sqlalchemy|alembic)", path.read_text(), re.MULTILINE)
    ]  # fmt: skip
    assert found == []

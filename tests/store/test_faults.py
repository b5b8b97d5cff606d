"""Broken, full, locked, read-only, foreign databases: a clear sentence, nothing lost, nothing half-written."""

import contextlib
import logging
import os
import shutil
import sqlite3
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event, text

from autoprune.errors import MissingExtraError, SchemaVersionError, StoreError
from autoprune.policy import PruningPolicy
from autoprune.store import MeasurementRow, Store, engine, urls
from autoprune.store.optuna_study import open_optuna_study
from autoprune.testing.studies import make_study, study_record


@pytest.fixture
def filled(sqlite_url: str) -> Path:
    """A database file with one finished study, all of it in the file itself."""
    with Store.open(sqlite_url) as store:
        make_study(store, "s", n_trials=6)
    with contextlib.closing(sqlite3.connect(sqlite_url)) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return Path(sqlite_url)


def refused(url: str | Path, words: str) -> StoreError:
    """Open what cannot be opened; the message must hold the words and come with a hint."""
    with pytest.raises(StoreError, match=words) as caught:
        Store.open(url)
    assert caught.value.hint
    assert "Traceback" not in str(caught.value)
    return caught.value


def test_folder_instead_of_a_file(tmp_path: Path) -> None:
    refused(tmp_path, "is a folder")


def test_folder_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file" / "a.db", "cannot be made")


@pytest.mark.parametrize("content", [b"hello", b"x" * 5000, b"SQLite format 3\0" + b"\0" * 20])
def test_no_database(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(content)
    refused(path, "no SQLite database")
    assert path.read_bytes() == content


def test_empty_file_becomes_a_database(tmp_path: Path) -> None:
    (tmp_path / "a.db").touch()
    with Store.open(tmp_path / "a.db") as store:
        assert store.list_studies() == []


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_truncated_file(filled: Path, share: float) -> None:
    content = filled.read_bytes()[: int(filled.stat().st_size * share)]
    filled.write_bytes(content)
    error = refused(filled, f"{len(content)} of")
    assert "recover" in error.hint
    assert filled.read_bytes() == content


def test_damaged_pages(filled: Path) -> None:
    content = bytearray(filled.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    filled.write_bytes(bytes(content))
    with pytest.raises(StoreError, match="damaged"):
        Store.open(filled).list_studies()


def test_newer_schema_is_refused_and_untouched(filled: Path) -> None:
    with contextlib.closing(sqlite3.connect(filled)) as raw, raw:
        raw.execute("UPDATE ap_alembic_version SET version_num = '9999'")
    with contextlib.closing(sqlite3.connect(filled)) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = filled.read_bytes()
    with pytest.raises(SchemaVersionError, match=r"9999.*newer") as caught:
        Store.open(filled)
    assert "Update autoprune" in caught.value.hint
    assert filled.read_bytes() == before


def test_newer_optuna_schema_is_refused(filled: Path) -> None:
    with contextlib.closing(sqlite3.connect(filled)) as raw, raw:
        raw.execute("UPDATE alembic_version SET version_num = 'v99.0.0.a'")
    with Store.open(filled) as store:
        assert len(store.front("s")) > 0  # ours can still be read
        with pytest.raises(SchemaVersionError, match="Optuna"):
            _ = store.storage


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder in which this process has no special rights, even where the tests run as root."""
    folder = Path(tempfile.mkdtemp(prefix="autoprune-faults-"))
    with Store.open(folder / "warm.db") as store:  # whatever is imported late is imported now
        make_study(store, "s", n_trials=2)
    root = os.geteuid() == 0
    folder.chmod(0o755)
    if root:
        os.seteuid(65534)
    yield folder
    if root:
        os.seteuid(0)
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_read_only_file(unprivileged: Path) -> None:
    path = unprivileged / "warm.db"
    if os.geteuid() != 65534:  # as root the files already belong to somebody else
        path.chmod(0o444)
        unprivileged.chmod(0o555)
    error = refused(path, "read-only")
    with Store.open(error.hint.split("'")[1]) as store:  # the hint's own address works for looking
        assert [summary.name for summary in store.list_studies()] == ["s"]


def test_read_only_folder_without_a_file(unprivileged: Path) -> None:
    if os.geteuid() != 65534:
        unprivileged.chmod(0o555)
    refused(unprivileged / "new.db", "read-only")
    refused(unprivileged / "below" / "new.db", "cannot be made")


def test_read_only_connection_reads_and_does_not_write(filled: Path) -> None:
    before = filled.read_bytes()
    with Store.open(f"sqlite:///file:{filled}?mode=ro&uri=true") as store:
        assert len(store.front("s", 20.0)) > 0
        assert len(open_optuna_study_trials(store)) == 7
        with pytest.raises(StoreError, match="read-only"):
            store.set_result("s", "met", {})
        with pytest.raises(StoreError, match="read-only"):
            store.storage.set_study_user_attr(1, "x", 1)
    assert filled.read_bytes() == before


def open_optuna_study_trials(store: Store) -> list[object]:
    import optuna

    return list(optuna.load_study(study_name="s", storage=store.storage).get_trials())


def test_read_only_database_that_does_not_exist(tmp_path: Path) -> None:
    refused(f"sqlite:///file:{tmp_path}/none.db?mode=ro", "does not exist")
    assert list(tmp_path.iterdir()) == []


def test_locked_database(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_MS", 50)
    with Store.open(sqlite_url) as store:
        store.create_study(study_record("s"))
        study = open_optuna_study(store, "s")
        with contextlib.closing(sqlite3.connect(sqlite_url)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match="locked by another process"):
                store.set_result("s", "met", {})
            with pytest.raises(StoreError, match="locked by another process"):
                study.set_user_attr("x", 1)
            assert store.require_study("s").status == "running"  # readers go on
            other.rollback()
        store.set_result("s", "met", {})
        assert store.require_study("s").status == "met"


def test_full_disk_undoes_the_step_and_loses_nothing(sqlite_url: str) -> None:
    with Store.open(sqlite_url) as store:
        store.create_study(study_record("s"))
        digest = store.add_policy(PruningPolicy())
        pages = [0]

        def limit(connection: sqlite3.Connection, _record: object) -> None:
            connection.execute(f"PRAGMA max_page_count={pages[0]}")

        with store.engine.connect() as connection:
            pages[0] = int(connection.execute(text("PRAGMA page_count")).scalar() or 0) + 40
        event.listen(store.engine, "connect", limit)
        store.engine.dispose()
        written = 0
        with pytest.raises(StoreError, match="disk is full"):
            for number in range(1000):
                with store.transaction():
                    row = MeasurementRow("bench", {}, 0.5, samples=os.urandom(3000))
                    store.add_measurement("s", number, digest, row)
                    store.add_measurement("s", number, digest, row)
                written += 1
        assert 0 < written < 1000
        assert len(store.measurements("s")) == 2 * written
        pages[0] = 2**30
        store.engine.dispose()
        store.add_measurement("s", 1, digest, MeasurementRow("bench", {}, 0.5))
        with store.engine.connect() as connection:
            assert connection.execute(text("PRAGMA integrity_check")).scalar() == "ok"


def test_full_disk_while_the_schema_is_made_leaves_no_half_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Small(engine.TunedConnection):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)
            self.execute("PRAGMA max_page_count=12")

    with monkeypatch.context() as patched:
        patched.setattr(engine, "TunedConnection", Small)
        refused(tmp_path / "a.db", "disk is full")
    with contextlib.closing(sqlite3.connect(tmp_path / "a.db")) as raw:
        assert raw.execute("SELECT name FROM sqlite_master").fetchall() == []
    with Store.open(tmp_path / "a.db") as store:
        store.create_study(study_record("s"))


@pytest.mark.parametrize("pages", [2, 11, 20])
def test_full_disk_while_optuna_makes_its_tables(sqlite_url: str, monkeypatch: pytest.MonkeyPatch, pages: int) -> None:
    with Store.open(sqlite_url) as store:
        with store.engine.connect() as connection:
            used = int(connection.execute(text("PRAGMA page_count")).scalar() or 0)

        class Small(engine.TunedConnection):
            def __init__(self, *args: object, **kwargs: object) -> None:
                super().__init__(*args, **kwargs)
                self.execute(f"PRAGMA max_page_count={used + pages}")

        with monkeypatch.context() as patched:
            patched.setattr(engine, "TunedConnection", Small)
            with pytest.raises(StoreError, match="disk is full"):
                _ = store.storage
        assert open_optuna_study(store, "s").study_name == "s"  # with room again, the rest is made


ADDRESSES = [
    "postgresql://me:geheim@127.0.0.1:1/studies",
    "postgresql://me:ge%40heim@127.0.0.1:1/studies?sslpassword=geheim",
    "postgresql://me@127.0.0.1:1/studies?password=geheim",
    "postgresql://me:geheim@nowhere.invalid/studies",
    "postgresql://me:geheim@127.0.0.1:port/studies",
    "postgresql://me:geheim@127.0.0.1:1",
    "postgresql+psycopg://me:ge@heim@127.0.0.1:1/studies",
    "mysql://me:geheim@127.0.0.1/studies",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_credentials_are_never_shown(
    address: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("psycopg")
    caplog.set_level(logging.DEBUG)
    with pytest.raises(StoreError) as caught:
        Store.open(address)
    shown = [str(caught.value), repr(caught.value), caplog.text, *traceback.format_exception(caught.value)]
    with contextlib.suppress(StoreError):
        shown.append(repr(urls.parse(address)))
    # The source line of this test is part of the traceback, the address is not.
    assert not [line for line in shown if "heim" in line.replace("match=", "")]
    assert caught.value.hint


def test_postgres_says_what_is_wrong(postgres_url: str) -> None:
    refused(postgres_url.rpartition("/")[0] + "/no_such_database", "does not exist")
    refused("postgresql://me:geheim@127.0.0.1:1/studies", r"me:\*\*\*@127\.0\.0\.1:1/studies does not answer")
    refused("postgresql://nobody@" + postgres_url.partition("@")[2], "user")


def test_postgres_that_stops_answering(postgres_url: str) -> None:
    with Store.open(postgres_url) as store:
        store.create_study(study_record("s"))
        with store.transaction() as session:
            pid = session.execute(text("SELECT pg_backend_pid()")).scalar()
            with store.engine.connect() as other:
                other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
            with pytest.raises(StoreError, match="closed the connection"):
                store.set_result("s", "met", {})
            session.rollback()
        assert store.require_study("s").status == "running"
        store.set_result("s", "met", {})  # the next step has a new connection


def test_postgres_without_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtraError) as caught:
        Store.open("postgresql://me:geheim@127.0.0.1/studies")
    assert "autoprune[postgres]" in caught.value.hint

"""One driver per study: locks that die with the process that holds them."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from sqlalchemy import Engine, text

from autoprune.errors import StoreError, StudyLockedError
from autoprune.store.urls import Address


@contextmanager
def study_lock(address: Address, engine: Engine, study: str) -> Iterator[None]:
    """Hold the study's lock for the block.

    SQLite: an OS file lock beside the database. PostgreSQL: a session-level advisory lock on a
    connection of its own; the server drops it with the connection.

    Raises:
        StudyLockedError: Another driver holds it.
        StoreError: The lock cannot be made (read-only folder).
    """
    if address.path is not None:
        with _file_lock(lock_path(address.path, study), study):
            yield
    else:
        with _advisory_lock(engine, study):
            yield


@contextmanager
def schema_lock(address: Address, engine: Engine) -> Iterator[None]:
    """Let one process at a time make or migrate tables: two that start together wait for each other.

    Raises:
        StoreError: The lock cannot be made (read-only folder), or is held for a minute.
    """
    if address.read_only:
        yield
    elif address.path is not None:
        with _file_lock(lock_path(address.path, ""), "the tables", timeout=60):
            yield
    else:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _key("schema")})
            try:
                yield
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _key("schema")})


def _key(what: str) -> int:
    return int.from_bytes(hashlib.sha256(f"autoprune {what}".encode()).digest()[:8], "big", signed=True)


def lock_path(database: Path, study: str) -> Path:
    """Return the lock file of a study: readable, safe in any file system, and different for different names."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", study)[:60]
    name = f"{safe}-{hashlib.sha256(study.encode()).hexdigest()[:8]}.lock"
    return database.with_name(f"{database.name}.locks") / name


@contextmanager
def _file_lock(path: Path, study: str, timeout: float = 0) -> Iterator[None]:
    lock = FileLock(path)
    try:
        path.parent.mkdir(exist_ok=True)
        lock.acquire(timeout=timeout)
    except Timeout:
        raise _locked(study, _holder(path)) from None
    except OSError as error:
        raise StoreError(
            f"The study {study!r} cannot be locked: {error.strerror} ({path}).",
            "Make the folder of the database writable.",
        ) from None
    try:
        # Written after the lock is held and never truncated by waiters: it only serves the message.
        path.write_text(str(os.getpid()))
        yield
    finally:
        lock.release()


def _holder(path: Path) -> str:
    try:
        pid = path.read_text().strip()
    except OSError:
        return ""
    return f" (process {pid})" if pid.isdigit() else ""


@contextmanager
def _advisory_lock(engine: Engine, study: str) -> Iterator[None]:
    key = _key(f"study {study}")
    # Autocommit: a transaction that stays open for hours would keep the server from cleaning up.
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": key}).scalar():
            holder = connection.execute(
                text(
                    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"
                    " AND ((classid::bigint << 32) | objid::bigint) = :key"
                ),
                {"key": key},
            ).scalar()
            raise _locked(study, f" (server process {holder})" if holder else "")
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": key})


def _locked(study: str, holder: str) -> StudyLockedError:
    return StudyLockedError(
        f"Another driver works on the study {study!r}{holder}.",
        "Wait for it, stop it, or start another study with --new or --study NAME.",
    )

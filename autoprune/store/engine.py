"""Engines with the settings that the measurements asked for (default SQLite: 247 ms a trial; these: about 20)."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import Connection, ExceptionContext
from sqlalchemy.exc import SQLAlchemyError

from autoprune.errors import MissingExtraError
from autoprune.store import faults
from autoprune.store.urls import Address

BUSY_TIMEOUT_MS = 30_000
WRITE = "autoprune_write"  # execution option: take the write lock at BEGIN, not at the first write


class TunedConnection(sqlite3.Connection):
    """An SQLite connection that sets its own pragmas: the only way to reach Optuna's engine from its first use on."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.execute("PRAGMA synchronous=NORMAL")
        self.execute("PRAGMA foreign_keys=ON")


def engine_kwargs(address: Address) -> dict[str, Any]:
    """Return the keyword arguments of ``create_engine`` for our engine and for Optuna's."""
    if address.backend == "sqlite":
        return {"connect_args": {"factory": TunedConnection, "timeout": BUSY_TIMEOUT_MS / 1000}}
    return {
        "connect_args": {"connect_timeout": 10, "application_name": "autoprune"},
        "pool_pre_ping": True,
        "pool_size": 2,
    }


def make_engine(address: Address) -> Engine:
    """Return our engine.

    Raises:
        MissingExtraError: PostgreSQL without its driver.
    """
    try:
        engine = create_engine(address.url, json_serializer=dumps, **engine_kwargs(address))
    except ModuleNotFoundError:
        raise MissingExtraError(
            "PostgreSQL needs the driver psycopg, which is not installed.",
            "Install it with: pip install 'autoprune[postgres]'.",
        ) from None
    explain_faults(engine, address)
    if address.backend == "sqlite":
        _explicit_transactions(engine)
    return engine


def explain_faults(engine: Engine, address: Address) -> None:
    """Let the engine raise ``StoreError`` for known faults, whoever uses it (Optuna too)."""

    @event.listens_for(engine, "handle_error")
    def translate(context: ExceptionContext) -> None:
        found = faults.describe(address, str(context.original_exception), connecting=context.connection is None)
        if found is not None:
            raise found from context.original_exception


@contextmanager
def explained(address: Address) -> Iterator[None]:
    """Turn known faults into ``StoreError`` where an engine is used before ``explain_faults`` could reach it."""
    try:
        yield
    except SQLAlchemyError as error:
        found = faults.describe(address, str(error))
        if found is None:
            raise
        raise found from error


def _explicit_transactions(engine: Engine) -> None:
    # sqlite3 starts no transaction before DDL, which would leave a failed migration half done, and starts
    # one only at the first write, where a reader that became a writer fails at once instead of waiting.
    @event.listens_for(engine, "connect")
    def manual(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        write = connection.get_execution_options().get(WRITE, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def uses_wal(engine: Engine, address: Address) -> bool:
    """Tell whether an SQLite file has write-ahead logging; True where nothing is to be switched."""
    if address.backend != "sqlite" or address.read_only:
        return True
    with raw_sqlite(engine, address) as connection:
        return str(connection.execute("PRAGMA journal_mode").fetchone()[0]) == "wal"


def use_wal(engine: Engine, address: Address) -> None:
    """Switch an SQLite file to write-ahead logging, once; it stays so.

    One process at a time: of two that switch at once SQLite refuses one without waiting.
    """
    if uses_wal(engine, address):
        return
    with raw_sqlite(engine, address) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


@contextmanager
def raw_sqlite(engine: Engine, address: Address) -> Iterator[sqlite3.Connection]:
    """Yield a bare SQLite connection outside any transaction; its faults become ``StoreError`` as well."""
    try:
        raw = engine.raw_connection()
        try:
            yield cast("sqlite3.Connection", raw.driver_connection)
        finally:
            raw.close()
    except sqlite3.DatabaseError as error:
        raise faults.describe(address, str(error), connecting=True) or error from None


def dumps(value: Any) -> str:
    """Return strict JSON: numbers that are not finite become null, numpy scalars plain numbers."""
    return json.dumps(clean(value), allow_nan=False, ensure_ascii=False)


def clean(value: Any) -> Any:
    """Return the value in JSON types alone; see ``dumps``."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    if hasattr(value, "items"):
        return {str(key): clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [clean(item) for item in value]
    if hasattr(value, "tolist"):  # numpy scalars and arrays, without importing numpy
        return clean(value.tolist())
    return str(value)

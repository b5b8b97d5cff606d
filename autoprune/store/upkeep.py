"""Housekeeping: ``autoprune db path | upgrade | check | vacuum`` as plain functions."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import optuna
from sqlalchemy import select, text

from autoprune.errors import PolicyError
from autoprune.front.pareto import non_dominated
from autoprune.policy import PruningPolicy
from autoprune.store import faults, migrate, tables, urls
from autoprune.store.engine import make_engine, raw_sqlite
from autoprune.store.repository import Store


@dataclass(frozen=True)
class Finding:
    """One line of ``autoprune db check``.

    Attributes:
        what: What was looked at.
        ok: Whether it is as it should be.
        detail: What was found, in words.
    """

    what: str
    ok: bool
    detail: str


def path(url: str | os.PathLike[str] | None = None) -> str:
    """Return where the database is: the file for SQLite, the masked URL otherwise. Nothing is opened."""
    address = urls.parse(url)
    return str(address.path) if address.path is not None else address.masked


def upgrade(url: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """Bring our tables and Optuna's to the installed versions.

    Returns:
        ``{"db", "from", "to", "optuna_from", "optuna_to"}``.

    Raises:
        StoreError: It cannot be opened or written.
        SchemaVersionError: It was written by a newer program.
    """
    address = urls.parse(url)
    faults.check_file(address)
    engine = make_engine(address)
    with engine.connect() as connection:
        before = migrate.current(connection)
    engine.dispose()
    with Store.open(url) as store:
        storage = store.open_storage(check=False)
        optuna_before = storage.get_current_version()
        if optuna_before != storage.get_head_version():
            storage.upgrade()
        optuna_after = storage.get_current_version()
        storage.engine.dispose()
        return {
            "db": store.url_masked,
            "from": before,
            "to": migrate.HEAD,
            "optuna_from": optuna_before,
            "optuna_to": optuna_after,
        }


def vacuum(store: Store) -> dict[str, Any]:
    """Give unused space back and refresh the planner's statistics.

    Returns:
        ``{"db", "bytes_before", "bytes_after"}``; the sizes are None for PostgreSQL.

    Raises:
        StoreError: The database is locked, read-only or the disk is full.
    """
    if store.address.path is None:
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
        return {"db": store.url_masked, "bytes_before": None, "bytes_after": None}
    before = _size(store)
    with raw_sqlite(store.engine, store.address) as sqlite:
        for statement in ("VACUUM", "ANALYZE", "PRAGMA wal_checkpoint(TRUNCATE)"):
            sqlite.execute(statement).fetchall()
    return {"db": store.url_masked, "bytes_before": before, "bytes_after": _size(store)}


def _size(store: Store) -> int:
    files = (f"{store.address.path}{suffix}" for suffix in ("", "-wal"))
    return sum(os.path.getsize(file) for file in files if os.path.exists(file))


def check(store: Store) -> list[Finding]:
    """Look at everything that can be wrong with a database; nothing is changed."""
    return [
        Finding("schema", True, f"version {migrate.HEAD}"),  # opening the store would have failed otherwise
        *_check_file(store),
        _check_policies(store),
        _check_optuna(store),
        _check_fronts(store),
    ]


def _check_file(store: Store) -> Iterator[Finding]:
    if store.address.path is None:
        return
    with store.engine.connect() as connection:
        damage = [str(row[0]) for row in connection.execute(text("PRAGMA integrity_check(10)"))]
        yield Finding("file", damage == ["ok"], "intact" if damage == ["ok"] else "; ".join(damage))
        loose = len(connection.execute(text("PRAGMA foreign_key_check")).fetchall())
        yield Finding("references", loose == 0, f"{loose} rows point to nothing")
        mode = connection.execute(text("PRAGMA journal_mode")).scalar()
        yield Finding("journal", mode == "wal", f"mode {mode}")


def _check_policies(store: Store) -> Finding:
    wrong, count = [], 0
    with store.reading() as session:
        for digest, policy in session.execute(select(tables.Policy.digest, tables.Policy.policy)):
            count += 1
            try:
                same = PruningPolicy.from_dict(policy).digest() == digest
            except PolicyError:
                same = False
            if not same:
                wrong.append(digest[:12])
    return Finding(
        "policies", not wrong, f"{count} policies, {len(wrong)} do not match their digest {wrong[:5] or ''}".strip()
    )


def _check_optuna(store: Store) -> Finding:
    theirs = set(optuna.get_all_study_names(store.storage))
    ours = {summary.name for summary in store.list_studies() if summary.n_points}
    alone = sorted(ours - theirs)
    return Finding(
        "optuna", not alone, f"{len(ours)} studies with trials, without their Optuna study: {alone or 'none'}"
    )


def _check_fronts(store: Store) -> Finding:
    wrong = []
    for summary in store.list_studies():
        statistic = str(store.require_study(summary.name).budget.get("statistic", "p50"))
        every = [point for point in store.points(summary.name) if point.statistic == statistic]
        chosen = non_dominated([point.latency_ms for point in every], [point.score for point in every])
        if {every[i].trial for i in chosen} != {point.trial for point in store.front(summary.name)}:
            wrong.append(summary.name)
    return Finding("fronts", not wrong, f"studies whose front index is wrong: {wrong or 'none'}")

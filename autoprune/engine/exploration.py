"""Sets a search up (or up again), runs it, verifies its winners and writes the document."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from autoprune.engine import figures
from autoprune.engine.assembly import assemble
from autoprune.engine.promise import Promise, make_promise
from autoprune.engine.run import Limits
from autoprune.engine.tables import open_tables
from autoprune.policy import PruningPolicy
from autoprune.store.rows import FrontRow

if TYPE_CHECKING:
    from autoprune.engine.document import DocumentMaker
    from autoprune.engine.events import Observer
    from autoprune.engine.interrupt import Interrupt
    from autoprune.engine.session import Session
    from autoprune.store.repository import Store


def explore(
    session: Session, store: Store, maker: DocumentMaker, observer: Observer, interrupt: Interrupt
) -> dict[str, Any]:
    """Search, verify, and return the document."""
    tables, table_of = open_tables(session, store, observer)
    limits = _limits(session, maker)
    pool = session.open_pool(tables, observer)
    try:
        run = assemble(session, store, maker, pool, tables, table_of, limits, observer, interrupt)
        interrupt.listen()
        interrupt.graceful = True
        run.run()
    finally:
        pool.close()
    _save_front(store, maker, limits)
    promise = Promise("interrupted", None)
    if not interrupt.requested:
        noisy = maker.probe.dense_timing.noisy
        promise = make_promise(session, store, run.recorder, tables, limits, observer, noisy)
    document = maker.make(promise.status, promise.best, run.study, run.timed_s)
    ended = {"exhausted": run.exhausted, "converged": limits.converged and run.convergence.converged}
    return {**document, **{name: True for name, true in ended.items() if true}}


def _limits(session: Session, maker: DocumentMaker) -> Limits:
    config = session.config
    return Limits(
        trials=session.trials,
        ratio=maker.limit_ratio,
        statistic=session.budget.statistic,
        anchor=maker.anchor,
        deadline=None if config.time_limit is None else maker.begun + config.time_limit,
        converged=config.until == "converged",
    )


def _save_front(store: Store, maker: DocumentMaker, limits: Limits) -> None:
    """Store the front as it was told: the same rows as Optuna's ``best_trials``."""
    found = figures.front_rows(figures.rows(store, maker.study), limits.ratio, limits.statistic)
    members = [
        FrontRow(
            trial=r["trial"],
            digest=PruningPolicy.from_dict(r["policy"]).digest(),
            latency_ms=r["latency_ms"][limits.statistic],
            score=r["score"],
            row=r,
        )
        for r in found
    ]
    why = f"searched until {time.strftime('%Y-%m-%d %H:%M:%S')}"
    store.save_front(maker.study, "front", members, why, hypervolume=figures.volume(found))

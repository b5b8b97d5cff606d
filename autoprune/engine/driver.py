"""``search``: one budget walks from the configuration to a promise."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from autoprune._registry import SAMPLERS
from autoprune.deploy.save import check_target
from autoprune.engine.assembly import open_probe
from autoprune.engine.clock import Clock
from autoprune.engine.document import DocumentMaker
from autoprune.engine.events import Observer
from autoprune.engine.exploration import explore
from autoprune.engine.interrupt import Interrupt
from autoprune.engine.places import open_place
from autoprune.engine.probing import dense_anchor
from autoprune.engine.result import SearchResult
from autoprune.engine.resume import pick_study
from autoprune.engine.session import Session, open_session
from autoprune.errors import StoreError, WaitStoppedError
from autoprune.report.publish import publish
from autoprune.store.optuna_study import open_optuna_study
from autoprune.store.repository import Store

if TYPE_CHECKING:
    from autoprune.config import SearchConfig
    from autoprune.store.rows import StudyRecord

_FINAL = ("met", "not_met", "already_met", "infeasible")


def search(config: SearchConfig, observer: Observer | None = None) -> SearchResult:
    """Find the policy that keeps the most accuracy under the budget, on this machine.

    The same configuration resumes its study, or returns its finished result.

    Args:
        config: What to search, see ``SearchConfig.of``.
        observer: Told of progress.

    Returns:
        The result; ``result.status`` says whether the budget is met.

    Raises:
        AutopruneError: Bad input (nothing is written then), or a failure.
    """
    observer = Clock(observer or Observer())
    begun = time.monotonic()
    SAMPLERS.get(config.sampler)
    if config.out is not None:
        check_target(config.out)
    with (
        Interrupt(observer.message) as interrupt,
        Store.open(config.db) as store,
        open_place(config, observer) as place,
    ):
        session = open_session(config, observer, place)
        session.stop = lambda: interrupt.requested
        name = pick_study(store, session)
        if _proved_nothing(store.get_study(name)):
            observer.message(f"study      {name} found the machine too disturbed for any policy; it begins anew")
            store.delete_study(name)
        with store.lock(name):
            known = store.get_study(name)
            if known is not None and known.result is not None and _answers(known, session):
                observer.message(f"study      {name} is finished; --new starts another")
                result = SearchResult({**known.result, "db": store.url_masked}, config.db)
            else:
                result = _search(session, store, name, known, begun, observer, interrupt)
    if config.out is not None and result.best is not None:
        result.save(config.out)
    observer.done()
    return result


def _proved_nothing(known: StudyRecord | None) -> bool:
    """Say whether a study is only a disturbed probe: going on with its cost table would end the same way."""
    return (
        known is not None
        and known.status == "too_noisy"
        and known.result is not None
        and not known.result["trials"]["complete"]
    )


def _answers(known: StudyRecord, session: Session) -> bool:
    """Say whether the stored result answers this call; asking for more trials goes on."""
    if known.status not in _FINAL or known.result is None:
        return False
    if known.status in ("already_met", "infeasible") or known.result.get("exhausted"):
        return True
    if known.result.get("converged") and session.config.until == "converged":
        return True
    tried = sum(known.result["trials"].values())
    limit_s = session.config.time_limit
    timed_out = limit_s is not None and session.config.trials is None and float(known.result["elapsed_s"]) >= limit_s
    return timed_out or tried >= session.trials


def _search(
    session: Session,
    store: Store,
    name: str,
    known: StudyRecord | None,
    begun: float,
    observer: Clock,
    interrupt: Interrupt,
) -> SearchResult:
    """Probe, decide whether a search makes sense, search, and store the document."""
    probe = open_probe(session, store, name, known, observer)
    spent = float((known.result or {}).get("elapsed_s", 0.0)) if known else 0.0
    maker = DocumentMaker(session, store, name, probe, dense_anchor(probe), begun, spent, observer)
    try:
        document = _decide(session, store, maker, observer, interrupt)
    except WaitStoppedError:
        # The policy that waited to be timed stays open in Optuna's study; the next sitting times it.
        document = maker.make("interrupted", None, open_optuna_study(store, name))
    if document["status"] == "interrupted" and known is not None and known.result is not None:
        document["best"] = known.result["best"]  # what an earlier sitting promised holds until another is verified
    store.set_result(name, document["status"], document)
    _publish(store, name, observer)
    return SearchResult(document, session.config.db)


def _publish(store: Store, name: str, observer: Observer) -> None:
    """Prepare what Optuna Dashboard shows; the result stands without it."""
    try:
        publish(store, name)
    except (StoreError, OSError) as error:
        observer.message(f"dashboard  its notes and artifacts could not be written: {error}")


def _decide(
    session: Session, store: Store, maker: DocumentMaker, observer: Observer, interrupt: Interrupt
) -> dict[str, Any]:
    """Answer at once where the probe suffices; else search."""
    if maker.already_met:
        observer.message("budget     is met already, without pruning")
        return maker.make("already_met", maker.dense_row(), None)
    if maker.probe.floor_ratio_ci[0] > maker.limit_ratio:
        floor = maker.probe.floor_ratio * maker.anchor[session.budget.statistic]
        observer.message(
            f"budget     {maker.limit_ms:.3g} ms is under the floor of {floor:.3g} ms: no policy can meet it"
        )
        return maker.make("infeasible", None, None)
    return explore(session, store, maker, observer, interrupt)

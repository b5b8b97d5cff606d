"""From a finished search to a promise: verify the winners in a fresh process, then decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autoprune.engine import figures
from autoprune.engine.decision import decide
from autoprune.engine.posterior import expected_scores
from autoprune.front.pareto import ties
from autoprune.policy import PruningPolicy
from autoprune.store.rows import FrontRow

if TYPE_CHECKING:
    from autoprune.engine.checking import Verified
    from autoprune.engine.events import Observer
    from autoprune.engine.record import Recorder
    from autoprune.engine.run import Limits
    from autoprune.engine.session import Session
    from autoprune.pruning.tables import TableSet
    from autoprune.store.repository import Store

_CANDIDATES = 4


@dataclass(frozen=True)
class Promise:
    """What can be promised after verification.

    Attributes:
        status: ``met``, ``not_met`` or ``too_noisy``.
        best: The verified row, or None.
    """

    status: str
    best: figures.Row | None


def make_promise(
    session: Session,
    store: Store,
    recorder: Recorder,
    tables: TableSet,
    limits: Limits,
    observer: Observer,
    probe_noisy: bool = False,
) -> Promise:
    """Verify the best policies, highest expected score first, two at a time, until one holds; store the verified front.

    Args:
        session: The loaded task.
        store: The open database.
        recorder: Writes the verifications.
        tables: Tables that policies refer to.
        limits: The budget.
        observer: Told of progress.
        probe_noisy: Whether the probe was disturbed: then it proves nothing that no shape was worth trying.
    """
    found = figures.rows(store, recorder.study)
    chosen = _candidates(found, limits)
    if not any(r["trial"] for r in found):
        return Promise("too_noisy" if probe_noisy else "not_met", None)
    if not chosen:
        return Promise("too_noisy" if _undecided(store, recorder.study, limits.ratio) else "not_met", None)
    observer.phase("verify in a fresh process")
    checks = session.place.verify(
        session.task.spec,
        session.timer(tables, observer.message),
        [PruningPolicy.from_dict(r["policy"]) for r in chosen],
        limits.ratio,
    )
    verified = [_keep(recorder, r, check, limits) for r, check in zip(chosen, checks, strict=False)]
    _save_front(store, recorder.study, verified, limits.statistic)
    decisions = [
        decide(check.timing.interval(limits.statistic), limits.ratio, check.timing.noisy, check.timing.drifted)
        for check in checks
    ]
    if "met" in decisions:
        return Promise("met", verified[decisions.index("met")])
    return Promise("too_noisy" if "too_noisy" in decisions else "not_met", None)


def _candidates(found: Sequence[figures.Row], limits: Limits) -> list[figures.Row]:
    """Return the front within the budget, the highest expected score first, dense left out."""
    front = [r for r in figures.front_rows(found, limits.ratio, limits.statistic) if r["trial"] != 0]
    expected = expected_scores(found, front)
    order = sorted(range(len(front)), key=lambda i: (-expected[i], front[i]["latency_ms"][limits.statistic]))
    return [front[i] for i in order[:_CANDIDATES]]


def _undecided(store: Store, study: str, limit: float) -> bool:
    """Say whether a disturbed measurement of the search holds the limit: on a quieter machine it might meet it."""
    return any(
        decide((m.ratio_lo, m.ratio_hi), limit, m.noisy) == "too_noisy"
        for m in store.measurements(study, kind="search", samples=False)
        if m.ratio_lo is not None and m.ratio_hi is not None
    )


def _keep(recorder: Recorder, told: figures.Row, check: Verified, limits: Limits) -> figures.Row:
    ratio = check.timing.ratio(limits.statistic)
    latency_ms = ratio * limits.anchor[limits.statistic]
    digest = PruningPolicy.from_dict(told["policy"]).digest()
    recorder.measurement(
        "verify",
        told["trial"],
        digest,
        check.timing,
        limits.statistic,
        latency_ms,
        flops_ratio=check.flops_ratio,
        end_to_end_ms=latency_ms + check.tokenise_ms,
    )
    stored = [m for m in recorder.store.measurements(recorder.study) if m.kind == "verify" and m.digest == digest]
    return {
        **figures.with_verified(told, stored[-1], limits.anchor),
        "flops_ratio": check.flops_ratio,
        "end_to_end_ms": latency_ms + check.tokenise_ms,
    }


def _save_front(store: Store, study: str, verified: Sequence[figures.Row], statistic: str) -> None:
    flags = ties(*_intervals(verified))
    rows = [
        FrontRow(
            trial=r["trial"],
            digest=PruningPolicy.from_dict(r["policy"]).digest(),
            latency_ms=r["latency_ms"][statistic],
            score=r["score"],
            tie=tie,
            row=r,
        )
        for r, tie in zip(verified, flags, strict=True)
    ]
    store.save_front(study, "verified", rows, "winners measured again in a fresh process", figures.volume(verified))


def _intervals(verified: Sequence[figures.Row]) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
    return (
        [r["ratio_ci95"][0] for r in verified],
        [r["ratio_ci95"][1] for r in verified],
        [r["drop_ci95"][0] for r in verified],
        [r["drop_ci95"][1] for r in verified],
    )

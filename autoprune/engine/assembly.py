"""Puts a search together: everything that proposals, scores and timings of one study need."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from autoprune.engine import figures
from autoprune.engine.calibrating import open_expected
from autoprune.engine.drift import restored_watch
from autoprune.engine.guiding import first_proposals, guide_sampler, make_guide, open_profile
from autoprune.engine.landscape.harm import HarmModel
from autoprune.engine.places import PlacedTimer
from autoprune.engine.probing import dense_anchor, note_dense, probe_session
from autoprune.engine.projection import Projector
from autoprune.engine.proposals import Proposer
from autoprune.engine.record import Recorder
from autoprune.engine.resume import restore, shared_logits, stored_logits, study_record
from autoprune.engine.run import Limits, SearchRun
from autoprune.engine.samplers.autoprune import AutopruneSampler
from autoprune.engine.scoreboard import Scoreboard
from autoprune.engine.session import Session, stored_workload
from autoprune.engine.starting import open_study, score_dense, tell_dense
from autoprune.engine.timing import SEARCH_SETTINGS
from autoprune.latency.exclusive import kernel_boot_id
from autoprune.latency.probe import ProbeResult
from autoprune.policy import PruningPolicy

if TYPE_CHECKING:
    from collections.abc import Mapping

    import optuna

    from autoprune.engine.document import DocumentMaker
    from autoprune.engine.events import Observer
    from autoprune.engine.interrupt import Interrupt
    from autoprune.engine.landscape.expected import Expected
    from autoprune.evaluate.pool import Pool
    from autoprune.evaluate.quality import Logits
    from autoprune.pruning.tables import TableSet
    from autoprune.store.repository import Store
    from autoprune.store.rows import StudyRecord


def open_probe(session: Session, store: Store, name: str, known: StudyRecord | None, observer: Observer) -> ProbeResult:
    """Return the study's probe: measured, and the study made with it; or as it is stored."""
    if known is None:
        probe = probe_session(session, store, observer, session.space.scorer_choices(), session.space.reducer_choices())
        with store.transaction():  # both or none: a study without dense has no figures
            store.create_study(study_record(session, name, probe, dense_anchor(probe)))
            note_dense(session, store, name, probe)
        return probe
    observer.message(f"study      {name} goes on")
    workload = stored_workload(known.workload)
    if workload.threads != session.workload.threads:
        observer.message(f"threads    {workload.threads}, as when the study began")
    session.workload = workload
    probe = ProbeResult.from_dict(known.config["probe"])
    if figures.dense_anchor(store, name) is None:  # a driver of an earlier version was killed between the two
        note_dense(session, store, name, probe)
    return probe


def assemble(
    session: Session,
    store: Store,
    maker: DocumentMaker,
    pool: Pool,
    tables: TableSet,
    table_of: Mapping[str, str],
    limits: Limits,
    observer: Observer,
    interrupt: Interrupt,
) -> SearchRun:
    """Return the search, begun or gone on with: dense scored and told, profile taken, first proposals enqueued.

    Args:
        session: The loaded task.
        store: The open database, with the study's lock held.
        maker: Knows the study's probe and budget.
        pool: Scores policies.
        tables: Tables that policies refer to.
        table_of: Table digest by the scorer that needs it.
        limits: When to stop.
        observer: Told of progress.
        interrupt: Set by Ctrl-C.
    """
    recorder, study = Recorder(store, maker.study), open_study(store, maker.study, session)
    known = _known_logits(session, store, maker.study, observer)
    dense = known.pop(PruningPolicy().digest(), None)
    scoreboard = Scoreboard(session.task, score_dense(pool, session, observer) if dense is None else dense)
    tell_dense(study, session, scoreboard, recorder, limits)
    expected = open_expected(session, store, tables, table_of, observer)
    projector = _projector(session, maker, table_of, limits, expected)
    tried, rivals = restore(study, scoreboard, projector, known)
    guided = isinstance(study.sampler, AutopruneSampler)
    harm = open_profile(session, store, pool, scoreboard, table_of, observer) if guided else HarmModel({})
    return SearchRun(
        study=study,
        proposer=_proposer(study, session, maker, projector, harm, limits),
        pool=pool,
        timer=PlacedTimer(
            session.place, session.timer(tables, observer.message), SEARCH_SETTINGS.with_(reference=limits.ratio)
        ),
        scoreboard=scoreboard,
        recorder=recorder,
        watch=restored_watch(store, maker.study, maker.probe.dense),
        limits=limits,
        observer=observer,
        interrupt=interrupt,
        apart=partial(_apart, session.place.host, pool),
        tried=tried,
        rivals=rivals,
    )


def _apart(host: str, pool: Pool) -> bool:
    """Return whether timing on that machine and scoring cannot disturb each other; this process works, too."""
    return bool(host) and kernel_boot_id() not in ("", host) and pool.apart(host)


def _known_logits(session: Session, store: Store, study: str, observer: Observer) -> dict[str, Logits]:
    shared = shared_logits(store, session, study)
    if shared:
        observer.message(f"scoring    {len(shared)} policies are known from earlier studies of this model and data")
    own = stored_logits(store, study)
    return shared | {digest: x for digest, x in own.items() if len(x) >= len(shared.get(digest, ()))}


def _projector(
    session: Session, maker: DocumentMaker, table_of: Mapping[str, str], limits: Limits, expected: Expected
) -> Projector:
    return Projector(
        maker.probe.cost_table,
        session.workload.lengths,
        session.n_protected,
        session.budget.statistic,
        table_of,
        limits.anchor[limits.statistic],
        expected,
    )


def _proposer(
    study: optuna.Study,
    session: Session,
    maker: DocumentMaker,
    projector: Projector,
    harm: HarmModel,
    limits: Limits,
) -> Proposer:
    floor_ms = maker.probe.floor_ratio * limits.anchor[limits.statistic]
    guide = make_guide(session.space, projector, maker.limit_ms, floor_ms, harm, limits.trials)
    guide_sampler(study, guide)
    if all(trial.number == 0 or trial.state is TrialState.WAITING for trial in study.get_trials(deepcopy=False)):
        for start in first_proposals(study, guide):
            start.enqueue(study)  # one that a killed driver enqueued already is passed over
    return Proposer(study, guide)

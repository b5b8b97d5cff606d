"""Sets a search up (or up again), runs it, verifies its winners and writes the document."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.trial import TrialState

from autoprune._registry import SAMPLERS
from autoprune.engine import figures
from autoprune.engine.drift import restored_watch
from autoprune.engine.guiding import first_params, guide_sampler, make_guide, open_profile
from autoprune.engine.landscape.harm import HarmModel
from autoprune.engine.lexicons import open_tables
from autoprune.engine.places import PlacedTimer
from autoprune.engine.projection import Projector
from autoprune.engine.promise import Promise, make_promise
from autoprune.engine.proposals import POLICY_ATTR, Proposer, describe, tell_values
from autoprune.engine.record import Recorder
from autoprune.engine.resume import restore, stored_logits
from autoprune.engine.run import Limits, SearchRun
from autoprune.engine.samplers.autoprune import AutopruneSampler
from autoprune.engine.scoreboard import Scoreboard
from autoprune.errors import WorkerError
from autoprune.evaluate.evaluator import Job
from autoprune.policy import PruningPolicy
from autoprune.store.optuna_study import delete_optuna_study, fail_stale, open_optuna_study
from autoprune.store.rows import FrontRow

if TYPE_CHECKING:
    from autoprune.engine.document import DocumentMaker
    from autoprune.engine.events import Observer
    from autoprune.engine.interrupt import Interrupt
    from autoprune.engine.session import Session
    from autoprune.evaluate.pool import Pool
    from autoprune.evaluate.quality import Logits
    from autoprune.store.repository import Store

_DENSE = PruningPolicy()
_CHUNK = 128
_SEED_STRIDE = 1_000_003  # a resumed sampler must not propose again what its first sitting did


def explore(
    session: Session, store: Store, maker: DocumentMaker, observer: Observer, interrupt: Interrupt
) -> dict[str, Any]:
    """Search, verify, and return the document."""
    config, budget = session.config, session.budget
    tables, table_of = open_tables(session, store, observer)
    recorder = Recorder(store, maker.study)
    study = open_study(store, maker.study, session)
    limits = Limits(
        trials=config.trials or session.space.file.trials,
        ratio=maker.limit_ratio,
        statistic=budget.statistic,
        anchor=maker.anchor,
        deadline=None if config.time_limit is None else maker.begun + config.time_limit,
        converged=config.until == "converged",
    )
    pool = session.open_pool(tables, observer)
    try:
        known = stored_logits(store, maker.study)
        dense = known.pop(_DENSE.digest(), None)
        scoreboard = Scoreboard(session.task, score_dense(pool, session, observer) if dense is None else dense)
        tell_dense(study, session, scoreboard, recorder, limits)
        projector = Projector(
            maker.probe.cost_table,
            session.workload.lengths,
            session.n_protected,
            budget.statistic,
            table_of,
            maker.anchor[budget.statistic],
        )
        tried, rivals = restore(study, scoreboard, projector, known)
        floor_ms = maker.probe.floor_ratio * maker.anchor[budget.statistic]
        guided = isinstance(study.sampler, AutopruneSampler)
        harm = open_profile(session, store, pool, scoreboard, table_of, observer) if guided else HarmModel({})
        guide = make_guide(session.space, projector, maker.limit_ms, floor_ms, harm)
        guide_sampler(study, guide)
        if len(study.get_trials(deepcopy=False)) == 1:
            for params in first_params(study, guide):
                study.enqueue_trial(params)
        run = SearchRun(
            study=study,
            proposer=Proposer(study, session.space, projector, maker.limit_ms, floor_ms),
            pool=pool,
            timer=PlacedTimer(session.place, session.timer(tables, observer.message)),
            scoreboard=scoreboard,
            recorder=recorder,
            watch=restored_watch(store, maker.study, maker.probe.dense),
            limits=limits,
            observer=observer,
            interrupt=interrupt,
            tried=tried,
            rivals=rivals,
        )
        interrupt.graceful = True
        run.run()
    finally:
        pool.close()
    _save_front(store, maker, limits)
    promise = Promise("interrupted", None)
    if not interrupt.requested:
        promise = make_promise(session, store, recorder, tables, limits, observer, maker.probe.dense_timing.noisy)
    document = maker.make(promise.status, promise.best, study, run.timed_s)
    ended = {"exhausted": run.exhausted, "converged": limits.converged and run.convergence.converged}
    return {**document, **{name: True for name, true in ended.items() if true}}


def open_study(store: Store, name: str, session: Session) -> optuna.Study:
    """Open Optuna's study; what a dead driver left running is failed and enqueued again."""
    study = open_optuna_study(store, name)
    begun = study.get_trials(deepcopy=False)
    if begun and begun[0].state is not TrialState.COMPLETE:
        # A driver died before dense was told: nothing is lost by starting Optuna's record again.
        delete_optuna_study(store.storage, name)
        study = open_optuna_study(store, name)
    ended = len(study.get_trials(deepcopy=False))
    study.sampler = SAMPLERS.get(session.config.sampler)((session.config.seed + ended * _SEED_STRIDE) % 2**32)
    for params, known in fail_stale(study):
        # With its policy: projected anew it would be another one, for predictions have been corrected since.
        study.enqueue_trial(params, user_attrs={name: known[name] for name in (POLICY_ATTR,) if name in known})
    return study


def score_dense(pool: Pool, session: Session, observer: Observer) -> Logits:
    """Score dense on all examples, in chunks that the pool's workers share."""
    n = len(session.task.texts)
    observer.phase("score dense", n)
    for start in range(0, n, _CHUNK):
        pool.submit(Job(f"dense{start}", _DENSE, start, min(n, start + _CHUNK)))
    parts: dict[int, Logits] = {}
    while pool.pending:
        outcome = pool.next()
        if outcome.logits is None:
            raise WorkerError(f"The model could not be scored without pruning: {outcome.error}")
        parts[outcome.job.start] = outcome.logits
        observer.advance(len(outcome.logits))
    return np.concatenate([parts[start] for start in sorted(parts)])


def tell_dense(
    study: optuna.Study, session: Session, scoreboard: Scoreboard, recorder: Recorder, limits: Limits
) -> None:
    """Make dense trial 0, with every parameter set."""
    if study.get_trials(deepcopy=False):
        return
    study.enqueue_trial(session.space.dense_params())
    trial = study.ask(session.space.distributions())
    describe(trial, _DENSE)
    scoreboard.add(_DENSE.digest(), 0, scoreboard.dense)
    quality = scoreboard.quality(_DENSE.digest())
    recorder.evaluation(0, _DENSE.digest(), quality, complete=True, logits=scoreboard.dense, seconds=0.0)
    latency_ms = limits.anchor[limits.statistic]
    tell_values(study, trial, latency_ms, quality.score, (1.0 - limits.ratio) * latency_ms)


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

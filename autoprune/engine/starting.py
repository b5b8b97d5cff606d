"""The first steps of a study: Optuna's record opened, dense scored and told as trial 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import optuna
from optuna.trial import TrialState

from autoprune._registry import SAMPLERS
from autoprune.engine import figures
from autoprune.engine.decision import excess_ms
from autoprune.engine.proposals import DIGEST_ATTR, describe, note_quality, tell_values
from autoprune.engine.resume import stored_logits
from autoprune.engine.scoreboard import Scoreboard
from autoprune.errors import WorkerError
from autoprune.evaluate.evaluator import Job
from autoprune.policy import PruningPolicy
from autoprune.store.optuna_study import delete_optuna_study, open_optuna_study, reopen_stale

if TYPE_CHECKING:
    from autoprune.engine.events import Observer
    from autoprune.engine.record import Recorder
    from autoprune.engine.run import Limits
    from autoprune.engine.session import Session
    from autoprune.evaluate.pool import Pool
    from autoprune.evaluate.quality import Logits
    from autoprune.store.repository import Store

_DENSE = PruningPolicy()
_CHUNK = 128
_SEED_STRIDE = 1_000_003  # a resumed sampler must not propose again what its first sitting did


def open_study(store: Store, name: str, session: Session) -> optuna.Study:
    """Open Optuna's study; what a dead driver had measured is told, what else it left running is gone on with."""
    study = open_optuna_study(store, name)
    begun = study.get_trials(deepcopy=False)
    if begun and begun[0].state is not TrialState.COMPLETE:
        # A driver died before dense was told: nothing is lost by starting Optuna's record again.
        delete_optuna_study(store.storage, name)
        study = open_optuna_study(store, name)
    _tell_measured(study, store, session)
    ended = len(study.get_trials(deepcopy=False))
    study.sampler = SAMPLERS.get(session.config.sampler)((session.config.seed + ended * _SEED_STRIDE) % 2**32)
    reopen_stale(study)
    return study


def _tell_measured(study: optuna.Study, store: Store, session: Session) -> None:
    """Tell the trials that a dead driver had measured: the store counts them already, and Optuna must as well."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    points = {point.trial: point for point in store.points(study.study_name)} if running else {}
    measured = [t for t in running if t.number in points and t.user_attrs.get(DIGEST_ATTR) == points[t.number].digest]
    anchor = figures.dense_anchor(store, study.study_name) if measured else None
    if anchor is None:
        return
    logits, dense_ms = stored_logits(store, study.study_name), anchor[session.budget.statistic]
    limit = session.budget.limit_ratio(dense_ms)
    scoreboard = Scoreboard(session.task, logits[_DENSE.digest()])
    for frozen in measured:
        point, trial = points[frozen.number], optuna.Trial(study, frozen._trial_id)
        scoreboard.add(point.digest, 0, logits[point.digest])
        note_quality(trial, scoreboard.rungs(point.digest))
        excess = excess_ms({"ratio_ci95": [point.ratio_lo, point.ratio_hi]}, limit, dense_ms)
        tell_values(study, trial, point.latency_ms, point.score, excess)


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

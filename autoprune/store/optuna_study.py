"""Optuna's side of a study: made, constrained and repaired through Optuna's API alone."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.trial import TrialState

from autoprune.store.drafts import DraftStorage

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage

    from autoprune.store.repository import Store

METRICS = ["latency_ms", "score"]
DIRECTIONS: list[Literal["minimize", "maximize"]] = ["minimize", "maximize"]
CONSTRAINT = "budget"


def open_optuna_study(store: Store, name: str, sampler: BaseSampler | None = None) -> optuna.Study:
    """Make the study or load it, to be written here: two named objectives, latency down and score up.

    A trial that is asked for is in the database once it is kept (``keep``) or told, not before.

    Args:
        store: The open database.
        name: Name of the study.
        sampler: Optuna's sampler; None: Optuna's default.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        storage=DraftStorage(store.storage),
        study_name=name,
        sampler=sampler,
        directions=DIRECTIONS,
        load_if_exists=True,
    )
    name_metrics(study)
    return study


def name_metrics(study: optuna.Study) -> None:
    """Name the two objectives, unless they are named already."""
    if study.metric_names != METRICS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names(METRICS)


def keep(trial: optuna.Trial) -> None:
    """Write a trial that was asked for as it stands, so that it outlives this process.

    Args:
        trial: The running trial, with all that its next sitting needs to know.
    """
    if isinstance(trial.storage, DraftStorage):
        trial.storage.keep(trial._trial_id)


def drop(trial: optuna.Trial) -> bool:
    """Forget a trial that was asked for and leads nowhere.

    Returns:
        Whether that could be done; where not (it came from the queue, say), it must be told.
    """
    return isinstance(trial.storage, DraftStorage) and trial.storage.drop(trial._trial_id)


def set_constraint(trial: optuna.Trial, value: float) -> None:
    """Record how far a trial is over the budget (<= 0: within it); call it before ``tell``.

    It is written twice. Optuna 5 and its samplers read the key ``constraints:budget``; Optuna Dashboard
    0.21 reads the older list ``constraints`` alone. Always both: the GP sampler refuses a study whose
    trials differ in their number of constraints.

    Args:
        trial: The running trial.
        value: For instance upper end of the latency interval minus limit, in milliseconds; not NaN.

    Raises:
        ValueError: The value is NaN.
    """
    trial.set_constraint(CONSTRAINT, value)
    trial.storage.set_trial_system_attr(trial._trial_id, "constraints", [float(value)])


def reopen_stale(study: optuna.Study) -> None:
    """Put the RUNNING trials that a dead driver left behind back in the queue; call it with the study's lock held.

    They keep number, parameters and attributes. The queue goes by numbers, so they come before all that were
    not begun: enqueued anew they would come last, and a search with few trials left would never reach them.
    """
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)


def delete_optuna_study(storage: BaseStorage, name: str) -> None:
    """Delete Optuna's study of that name if there is one."""
    try:
        optuna.delete_study(study_name=name, storage=storage)
    except KeyError:
        return

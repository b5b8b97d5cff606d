"""Optuna's part of an exported study, read and written through Optuna's API alone."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.trial import FrozenTrial, TrialState

from autoprune.errors import StoreError
from autoprune.store.optuna_study import DIRECTIONS, METRICS, delete_optuna_study, name_metrics

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

_UNFINISHED = "autoprune:import_unfinished"


def dump(storage: BaseStorage, name: str) -> str:
    """Return a study's trials as JSON text; ``null`` if Optuna has no such study (it ended with the probe)."""
    try:
        study = optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        return "null"
    trials = [_pack(trial) for trial in study.get_trials(deepcopy=False)]
    return json.dumps({"metric_names": METRICS, "user_attrs": study.user_attrs, "trials": trials})


def load(storage: BaseStorage, name: str, text: bytes | str) -> None:
    """Make the study and its trials, marked as unfinished; a left-over of a broken import is replaced.

    Raises:
        StoreError: Optuna has a study of that name that is none of ours.
    """
    facts = json.loads(text)
    if facts is None:
        return
    discard(storage, name)
    try:
        study = optuna.create_study(storage=storage, study_name=name, directions=DIRECTIONS)
    except optuna.exceptions.DuplicatedStudyError:
        raise StoreError(
            f"Optuna has a study {name!r} in this database already.", "Import with another --name."
        ) from None
    study.set_user_attr(_UNFINISHED, True)
    name_metrics(study)
    for key, value in facts["user_attrs"].items():
        study.set_user_attr(key, value)
    study.add_trials([_unpack(trial) for trial in facts["trials"]])


def finish(storage: BaseStorage, name: str) -> None:
    """Take the mark away: our part is complete."""
    try:
        optuna.load_study(study_name=name, storage=storage).set_user_attr(_UNFINISHED, False)
    except KeyError:
        return


def discard(storage: BaseStorage, name: str) -> None:
    """Delete a study that is marked as unfinished; leave any other alone."""
    try:
        unfinished = optuna.load_study(study_name=name, storage=storage).user_attrs.get(_UNFINISHED, False)
    except KeyError:
        return
    if unfinished:
        delete_optuna_study(storage, name)


def _pack(trial: FrozenTrial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "state": trial.state.name,
        "values": trial.values,
        "params": trial.params,
        "distributions": {name: distribution_to_json(space) for name, space in trial.distributions.items()},
        "user_attrs": trial.user_attrs,
        "system_attrs": trial.system_attrs,
        "intermediate_values": trial.intermediate_values,
        "start": None if trial.datetime_start is None else trial.datetime_start.isoformat(),
        "complete": None if trial.datetime_complete is None else trial.datetime_complete.isoformat(),
    }


def _unpack(facts: dict[str, Any]) -> FrozenTrial:
    state = TrialState[facts["state"]]
    return FrozenTrial(
        number=facts["number"],
        state=state,
        value=None,
        values=facts["values"],
        datetime_start=_moment(facts["start"]),
        datetime_complete=_moment(facts["complete"]),
        params=facts["params"],
        distributions={name: json_to_distribution(space) for name, space in facts["distributions"].items()},
        user_attrs=facts["user_attrs"],
        system_attrs=facts["system_attrs"],
        intermediate_values={int(step): value for step, value in facts["intermediate_values"].items()},
        trial_id=-1,  # the storage gives its own
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)

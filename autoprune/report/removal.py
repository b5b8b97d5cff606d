"""Deletes a study with the artifacts that were put beside the database for it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import optuna

from autoprune.report.publish import artifact_folder

if TYPE_CHECKING:
    from autoprune.store.repository import Store


def delete_study(store: Store, study: str) -> None:
    """Delete a study, its rows, Optuna's study and its artifacts; policies and tables stay for others.

    Raises:
        StudyNotFoundError: There is none of that name.
        StudyLockedError: A driver works on it.
    """
    files = [artifact_folder(store) / identity for identity in _artifacts(store, study)]
    store.delete_study(study)
    for file in files:
        with contextlib.suppress(OSError):  # one that is not there is deleted
            file.unlink()


def _artifacts(store: Store, study: str) -> list[str]:
    try:
        target = optuna.load_study(study_name=study, storage=store.storage)
    except KeyError:
        return []
    places = [store.storage.get_study_system_attrs(target._study_id)]
    places += [trial.system_attrs for trial in target.get_trials(deepcopy=False)]
    return [identity for attributes in places for identity in _listed(attributes)]


def _listed(attributes: Mapping[str, Any]) -> Iterator[str]:
    for key, value in attributes.items():
        if key.startswith(("artifacts:", "dashboard:artifacts:")) and isinstance(value, str):
            yield str(json.loads(value)["artifact_id"])

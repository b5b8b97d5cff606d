"""Fills Optuna Dashboard's pages of a study: notes, the front as a chart, artifacts."""

from __future__ import annotations

import hashlib
import io
import json
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import optuna
from optuna.artifacts import FileSystemArtifactStore
from optuna.trial import FrozenTrial

from autoprune.errors import StoreError, StudyLockedError
from autoprune.report import charts
from autoprune.report.gather import ReportData, gather
from autoprune.report.notes import study_note, trial_note
from autoprune.report.words import pick
from autoprune.resources import data_dir

if TYPE_CHECKING:
    from datetime import datetime

    from autoprune.store.repository import Store

CHART_ID = "front"
_PUBLISHED = "autoprune:published"
_NOTE = "autoprune:note"


def artifact_folder(store: Store) -> Path:
    """Return where artifacts lie: beside an SQLite file, else under the user's data directory."""
    path = store.address.path
    return path.with_name(f"{path.name}.artifacts") if path is not None else data_dir() / "artifacts"


def artifact_store(store: Store) -> FileSystemArtifactStore:
    """Return Optuna's artifact store of a database; its folder is made.

    Raises:
        StoreError: The folder cannot be made.
    """
    folder = artifact_folder(store)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"The folder {folder} cannot be made: {error.strerror}.", "Make its parent writable."
        ) from None
    return FileSystemArtifactStore(folder)


def publish(store: Store, study: str) -> bool:
    """Write a study's notes, chart and artifacts; doing it again renews them and doubles nothing.

    Call it from the process that drives the study, or when no driver works on it.

    Args:
        store: The open database.
        study: Name of the study.

    Returns:
        Whether there was anything to write: False if Optuna has no such study (it ended with the probe).

    Raises:
        StudyNotFoundError: There is none of that name.
    """
    data = gather(store, study)
    try:
        target = optuna.load_study(study_name=data.study.name, storage=store.storage)
    except KeyError:
        return False
    known = store.storage.get_study_system_attrs(target._study_id)
    _save_notes(store, target, data, known)
    if data.points:
        _save_chart(target, data)
    _save_artifacts(store, target, data, known)
    mark = _mark(data.study.updated_at, data.study.status, len(data.points))
    store.storage.set_study_system_attr(target._study_id, _PUBLISHED, mark)
    return True


def publish_all(store: Store) -> list[str]:
    """Publish every study that changed since it was published and that no driver works on; return their names."""
    done = []
    for summary in store.list_studies():
        try:
            target = optuna.load_study(study_name=summary.name, storage=store.storage)
        except KeyError:
            continue
        mark = _mark(summary.updated_at, summary.status, summary.n_points)
        if store.storage.get_study_system_attrs(target._study_id).get(_PUBLISHED) == mark:
            continue
        try:
            with store.lock(summary.name):
                publish(store, summary.name)
        except StudyLockedError:
            continue
        done.append(summary.name)
    return done


def _mark(updated_at: datetime | None, status: str, n_points: int) -> str:
    return f"{updated_at} {status} {n_points}"


def _save_notes(store: Store, study: optuna.Study, data: ReportData, known: dict[str, Any]) -> None:
    from optuna_dashboard import save_note

    _save_study_note(store, study, study_note(data), known.get(_NOTE))
    described = {point.trial: point.policy for point in data.points}
    for trial in study.get_trials(deepcopy=False):
        policy = described.get(trial.number) or _policy_of(trial)
        # A policy never changes, so a note that is there stays, with whatever somebody added to it.
        if policy is None or f"dashboard:{trial._trial_id}:note_ver" in known:
            continue
        place = SimpleNamespace(storage=store.storage, study=study, _trial_id=trial._trial_id)
        save_note(place, trial_note(trial.number, policy))


def _save_study_note(store: Store, study: optuna.Study, note: str, last: str | None) -> None:
    """Renew the study's note, unless somebody has edited it since we wrote it last."""
    from optuna_dashboard import get_note, save_note

    there = get_note(study)
    if there and _digest(there) != last:
        return
    save_note(study, note)
    store.storage.set_study_system_attr(study._study_id, _NOTE, _digest(note))


def _digest(note: str) -> str:
    return hashlib.sha256(note.encode()).hexdigest()


def _policy_of(trial: FrozenTrial) -> dict[str, Any] | None:
    # Stopped and failed trials have no point; the driver leaves their policy beside them.
    text = trial.user_attrs.get("policy")
    try:
        found = json.loads(text) if isinstance(text, str) else text
    except json.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _save_chart(study: optuna.Study, data: ReportData) -> None:
    from optuna_dashboard import save_plotly_graph_object
    from plotly.graph_objects import Figure

    chart = charts.front(data)
    layout = chart["layout"] | {"title": {"text": f"Front of {data.study.name}"}, "height": 440}
    layout["margin"] = layout["margin"] | {"t": 110}
    save_plotly_graph_object(study, Figure(data=chart["data"], layout=layout), graph_object_id=CHART_ID)


def _save_artifacts(store: Store, study: optuna.Study, data: ReportData, known: dict[str, Any]) -> None:
    members = {point.trial: point for point in data.front}
    numbers = {trial.number: trial._trial_id for trial in study.get_trials(deepcopy=False)}
    samples = {
        row.trial: row.samples for row in store.measurements(data.study.name) if row.trial in members and row.samples
    }
    shelf = _Shelf(store, study._study_id, known)
    for number, point in members.items():
        if number not in numbers:
            continue
        policy = json.dumps(point.policy, indent=2).encode()
        shelf.put(f"policy-trial-{number}.json", policy, "application/json", numbers[number])
        if number in samples:
            shelf.put(
                f"latency-trial-{number}.npz", samples[number] or b"", "application/octet-stream", numbers[number]
            )
    best = pick(data.best, "policy")
    if best is not None:
        name = f"best-policy-trial-{pick(data.best, 'trial')}.json"
        shelf.put(name, json.dumps(best, indent=2).encode(), "application/json")


class _Shelf:
    """Puts artifacts where the dashboard finds them, each file name once per place.

    ``optuna.artifacts.upload_artifact`` refuses finished trials; the dashboard also reads a trial's
    artifacts from the study's attributes, which can still be written.
    """

    def __init__(self, store: Store, study_id: int, known: dict[str, Any]) -> None:
        self._store, self._study_id = store, study_id
        self._files = artifact_store(store)
        self._there = {
            (key.rpartition(":")[0], json.loads(value).get("filename"))
            for key, value in known.items()
            if key.startswith(("artifacts:", "dashboard:artifacts:")) and isinstance(value, str)
        }

    def put(self, name: str, content: bytes, mimetype: str, trial_id: int | None = None) -> None:
        """Store a file for a trial, or for the study."""
        place = "artifacts" if trial_id is None else f"dashboard:artifacts:{trial_id}"
        if (place, name) in self._there:
            return
        identity = str(uuid.uuid4())
        self._files.write(identity, io.BytesIO(content))
        meta = {"artifact_id": identity, "filename": name, "mimetype": mimetype, "encoding": None}
        self._store.storage.set_study_system_attr(self._study_id, f"{place}:{identity}", json.dumps(meta))

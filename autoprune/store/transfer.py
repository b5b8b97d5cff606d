"""A study as one file that opens on another machine: a zip of JSON and raw bytes, no pickle."""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from autoprune.errors import StoreError, StudyLockedError
from autoprune.policy import PruningPolicy
from autoprune.store import optuna_transfer
from autoprune.store.engine import dumps
from autoprune.store.repository import Store
from autoprune.store.rows import EvaluationRow, FrontRow, Json, MeasurementRow, StudyRecord
from autoprune.store.session import digest_of
from autoprune.store.tables import now

FORMAT = "autoprune-study"
FORMAT_VERSION = 1
_TABLE = "sha256:"  # how the key of a table begins
_PLACE = {"id", "study", "trial", "digest", "created_at"}  # what a stored row has beyond the row itself


def export_study(store: Store, study: str, path: str | os.PathLike[str]) -> Path:
    """Write a study with everything it needs: policies, numbers, samples, fronts, tables, Optuna's trials.

    Args:
        store: The open database.
        study: Name of the study.
        path: The file to write; it appears only when it is complete.

    Raises:
        StudyNotFoundError: There is none of that name.
        StudyLockedError: A driver works on it: our part and Optuna's would be of different moments.
        StoreError: The file cannot be written.
    """
    store.require_study(study)  # before it is locked: a mistyped name leaves no lock file
    try:
        with contextlib.nullcontext() if store.address.read_only else store.lock(study):
            return _export(store, store.require_study(study), Path(path))
    except StudyLockedError as error:
        raise StudyLockedError(
            error.message, "Export it when its search has ended; Ctrl-C ends and saves it."
        ) from None


def _export(store: Store, record: StudyRecord, target: Path) -> Path:
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in _entries(store, record):
                archive.writestr(name, data)
        os.replace(part, target)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise StoreError(f"The file {target} cannot be written: {error.strerror}.", "Give another path.") from None
    return target


def _entries(store: Store, record: StudyRecord) -> Iterator[tuple[str, bytes | str]]:
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "study": record.name,
        "exported_at": now().isoformat(),
    }
    yield "manifest.json", dumps(manifest)
    yield (
        "study.json",
        dumps(asdict(record) | {"created_at": _iso(record.created_at), "updated_at": _iso(record.updated_at)}),
    )
    evaluations = store.evaluations(record.name)
    measurements = store.measurements(record.name)
    fronts = store.fronts(record.name)
    blobs: tuple[tuple[str, Sequence[Any], str], ...] = (
        ("evaluations", evaluations, "per_example"),
        ("measurements", measurements, "samples"),
    )
    for name, rows, blob in blobs:
        yield f"{name}.json", dumps([_row(row, blob) for row in rows])
        for row in rows:
            data = getattr(row, blob)
            if data is not None:
                yield f"{name}/{row.id}.bin", data
    yield "fronts.json", dumps([asdict(front) | {"created_at": _iso(front.created_at)} for front in fronts])
    digests = {row.digest for row in evaluations} | {row.digest for row in measurements}
    digests |= {member.digest for front in fronts for member in front.rows}
    policies = {digest: store.get_policy(digest) for digest in sorted(digests)}
    yield "policies.json", dumps(policies)
    profiles = _profiles(store, record)
    yield "profiles.json", dumps(profiles)
    yield "cost_table.json", dumps(store.get_cost_table(*_timed_place(record)))
    wanted = {key for policy in policies.values() if policy for key in PruningPolicy.from_dict(policy).tables()}
    wanted |= {value for facts in profiles.values() for value in facts.values() if _names_table(value)}
    for key in sorted(wanted):
        data = store.get_table(key)
        if data is not None:
            yield f"tables/{key.removeprefix(_TABLE)}.bin", data
    yield "optuna.json", optuna_transfer.dump(store.storage, record.name)


def _profiles(store: Store, record: StudyRecord) -> dict[str, Json]:
    """Return what was learned of this model on these data, the newest by key: keys hold the data's fingerprint."""
    model, data = digest_of(record.model), str(record.task.get("data") or digest_of(record.task))
    return {key: facts for owner, key, facts in store.profiles() if owner == model and data in key}


def _names_table(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(_TABLE)


def _timed_place(record: StudyRecord) -> tuple[str, str, str]:
    """Return under which digests the probe of a study is kept."""
    # Early versions stored no digest with a workload, only words for people that are no part of it.
    workload = digest_of({key: value for key, value in record.workload.items() if key != "describe"})
    return digest_of(record.hardware), digest_of(record.model), workload


def _row(row: Any, blob: str) -> Json:
    out = {f.name: getattr(row, f.name) for f in fields(row) if f.name != blob}
    return out | {"created_at": _iso(row.created_at), "blob": getattr(row, blob) is not None}


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def import_study(store: Store, path: str | os.PathLike[str], name: str | None = None) -> str:
    """Read a study that ``export_study`` wrote, completely or not at all.

    Args:
        store: The open database.
        path: The file.
        name: Another name for the study; None: its own.

    Returns:
        The study's name here.

    Raises:
        StoreError: The file is none, damaged or of a newer version, or the name is taken.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check(archive, Path(path))
            return _read(store, archive, name)
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
        raise StoreError(f"The file {path} is no exported study, or is damaged: {error}.", "Export it again.") from None


def _check(archive: zipfile.ZipFile, path: Path) -> None:
    manifest = _json(archive, "manifest")
    if manifest.get("format") != FORMAT:
        raise ValueError("its manifest is another program's")
    if manifest.get("format_version", 0) > FORMAT_VERSION:
        raise StoreError(f"The file {path} was written by a newer autoprune.", "Update autoprune and import it again.")
    broken = archive.testzip()
    if broken is not None:
        raise ValueError(f"{broken} fails its checksum")


def _read(store: Store, archive: zipfile.ZipFile, name: str | None) -> str:
    facts = _json(archive, "study")
    record = StudyRecord(
        **{**facts, "name": name or facts["name"]} | {k: _moment(facts[k]) for k in ("created_at", "updated_at")}
    )
    with store.lock(record.name):
        if store.get_study(record.name) is not None:
            raise StoreError(
                f"There is a study {record.name!r} in {store.url_masked} already.", "Import it with another --name."
            )
        # Optuna's part first: it cannot join our transaction, and is marked until ours is complete.
        optuna_transfer.load(store.storage, record.name, archive.read("optuna.json"))
        try:
            _read_ours(store, archive, record)
        except BaseException:
            optuna_transfer.discard(store.storage, record.name)
            raise
        optuna_transfer.finish(store.storage, record.name)
    return record.name


def _read_ours(store: Store, archive: zipfile.ZipFile, record: StudyRecord) -> None:
    with store.transaction():
        store.create_study(record)
        for policy in _json(archive, "policies").values():
            store.add_policy(PruningPolicy.from_dict(policy))
        for entry in archive.namelist():
            if entry.startswith("tables/") and entry.endswith(".bin"):
                store.put_table(f"{_TABLE}{Path(entry).stem}", archive.read(entry))
        for trial, digest, made, quality in _rows(archive, "evaluations", EvaluationRow, "per_example"):
            store.add_evaluation(record.name, trial, digest, quality, created_at=made)
        for trial, digest, made, cost in _rows(archive, "measurements", MeasurementRow, "samples"):
            store.add_measurement(record.name, trial, digest, cost, created_at=made)
        for front in _json(archive, "fronts"):
            rows = [FrontRow(**row) for row in front["rows"]]
            made = _moment(front["created_at"])
            store.save_front(record.name, front["kind"], rows, front["why"], front["hypervolume"], created_at=made)
        _read_learned(store, archive, record)


def _read_learned(store: Store, archive: zipfile.ZipFile, record: StudyRecord) -> None:
    place, model = _timed_place(record), digest_of(record.model)
    cost = _json(archive, "cost_table")
    if cost is not None and store.get_cost_table(*place) is None:
        store.put_cost_table(*place, cost)
    # Files of early versions have no profiles.
    profiles = _json(archive, "profiles") if "profiles.json" in archive.namelist() else {}
    for key, facts in profiles.items():
        if store.get_profile(model, key) is None:
            store.put_profile(model, key, facts)


def _rows(
    archive: zipfile.ZipFile, name: str, kind: Any, blob: str
) -> Iterator[tuple[int | None, str, datetime | None, Any]]:
    for facts in _json(archive, name):
        data = archive.read(f"{name}/{facts['id']}.bin") if facts.pop("blob") else None
        values = {key: value for key, value in facts.items() if key not in _PLACE}
        yield facts["trial"], facts["digest"], _moment(facts["created_at"]), kind(**values, **{blob: data})


def _json(archive: zipfile.ZipFile, name: str) -> Any:
    return json.loads(archive.read(f"{name}.json"))


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)

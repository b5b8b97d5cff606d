"""Export: the unchanged model with a policy of a study and the figures that were measured of it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune.deploy.save import check_target, save_pruned
from autoprune.engine import figures
from autoprune.engine.events import Observer
from autoprune.engine.onnx_writing import OnnxWriter
from autoprune.engine.session import stored_workload
from autoprune.errors import AssetError, InputError, ModelError
from autoprune.policy import PruningPolicy
from autoprune.pruning.onnx_export import require_onnx
from autoprune.pruning.tables import TableSet
from autoprune.store import urls
from autoprune.store.repository import Store
from autoprune.tasks.base import TaskSpec, load_model, load_task
from autoprune.tasks.digests import model_digest

if TYPE_CHECKING:
    from autoprune.store.rows import StudyRecord

_NO_BEST = {
    "not_met": "has no policy that meets its budget",
    "infeasible": "has no policy that meets its budget",
    "too_noisy": "was timed on a machine too disturbed to tell which policy meets its budget",
}
"""Why a study promises nothing, by its status."""


def export_trial(
    db: str | None,
    study: str,
    trial: int | None,
    out_dir: Path,
    observer: Observer | None = None,
    *,
    onnx: bool = False,
) -> dict[str, Any]:
    """Write a policy of a study with its model to a folder.

    Args:
        db: Database URL or file; None is the default.
        study: Name of the study.
        trial: Optuna's trial number; None takes the promised best.
        out_dir: The folder.
        observer: Told of progress.
        onnx: Also write ``model.onnx``, see ``onnx_writer``.

    Returns:
        directory, study, trial, figures and, with ``onnx``, the name and the inputs of that file, as JSON types.

    Raises:
        InputError: There is no such trial, or the study has no best.
        StoreError: The study has no figures yet.
        ModelError: The model is not the one that was searched.
        MissingExtraError: ``onnx`` is asked for and the extra is not installed.
    """
    observer = observer or Observer()
    check_target(out_dir)
    if onnx:
        require_onnx()
    with Store.open(db) as store:
        record = store.find_measured_study(study)
        row = _row(store, record, trial)
        policy = PruningPolicy.from_dict(row["policy"])
        tables = stored_tables(store, policy)
        spec = TaskSpec.from_dict({k: v for k, v in record.task.items() if k in TaskSpec.__dataclass_fields__})
        observer.phase("load the model")
        model, tokenizer = load_model(spec)
        if model_digest(model) != record.model["digest"]:
            raise ModelError(
                "The model's weights are not those that were searched.", "Restore them, or search again with these."
            )
        # Its graph is held against PyTorch on texts of the task; without it the model is all that is needed.
        writer = OnnxWriter(load_task(spec), policy, tables, stored_workload(record.workload)) if onnx else None
        written = save_pruned(
            model,
            tokenizer,
            policy,
            out_dir,
            tables=tables,
            figures={key: value for key, value in row.items() if key != "policy"},
            workload=record.workload,
            hardware=record.hardware,
            versions=record.versions,
            task=spec.to_dict(),
            study={"name": record.name, "trial": row["trial"], "budget": record.budget},
            also=writer,
        )
    observer.done()
    document = {"directory": str(written), "study": record.name, "trial": row["trial"], "figures": row}
    return document if writer is None else {**document, "onnx": writer.facts}


def stored_tables(store: Store, policy: PruningPolicy) -> TableSet | None:
    """Return the tables that a policy names; None if it names none.

    Raises:
        AssetError: The database does not hold one of them.
    """
    wanted = set(policy.tables())
    tables = TableSet()
    for key in wanted:
        data = store.get_table(key)
        if data is None:
            raise AssetError(f"The database lacks the table {key} of this policy.", "Search again to learn it.")
        for table in TableSet.from_bytes(data).values():
            tables.add(table)
    return tables if wanted else None


def _db_flag(store: Store) -> str:
    """Return the ``--db`` that the next command needs: none where the database is the default one."""
    return "" if store.address == urls.parse(None) else f" --db {shlex.quote(store.url_masked)}"


def _row(store: Store, record: StudyRecord, trial: int | None) -> figures.Row:
    if trial is None:
        best = (record.result or {}).get("best")
        if best is None:
            command = f"autoprune front {shlex.quote(record.name)} --budget 100%@{record.budget['statistic']}"
            why = _NO_BEST.get(record.status, "is not finished: no policy of it was verified yet")
            raise InputError(
                f"The study {record.name!r} {why}.",
                f"Choose one with --trial; `{command}{_db_flag(store)}` lists them.",
            )
        return dict(best)
    found = {r["trial"]: r for r in figures.rows(store, record.name)}
    if trial not in found:
        known = ", ".join(str(number) for number in sorted(found)) or "none"
        raise InputError(f"Trial {trial} of {record.name!r} has no complete figures.", f"Trials that have: {known}.")
    anchor = figures.dense_anchor(store, record.name) or {}
    digest = PruningPolicy.from_dict(found[trial]["policy"]).digest()
    checks = [m for m in store.measurements(record.name) if m.kind == "verify" and m.digest == digest]
    return figures.with_verified(found[trial], checks[-1], anchor) if checks else found[trial]

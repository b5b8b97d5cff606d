"""Questions about stored studies; none of them runs a model, but for ``export`` and ``bench``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune.budget import Budget
from autoprune.engine import figures
from autoprune.engine.drift import drift_facts
from autoprune.errors import StoreError
from autoprune.store.repository import Store

if TYPE_CHECKING:
    from autoprune.engine.events import Observer
    from autoprune.latency.meter import MeterSettings


def list_studies(
    db: str | None, model: str | None = None, task: str | None = None, hardware: str | None = None
) -> dict[str, Any]:
    """Return the studies in the database, newest first.

    Args:
        db: Database URL or file; None is the default.
        model: Only studies of this model (name or start of the digest).
        task: Likewise for the task.
        hardware: Likewise for the machine; ``here`` is this one, ``any`` every one.
    """
    hardware = None if hardware == "any" else hardware
    if hardware == "here":
        from autoprune.latency.hardware import fingerprint

        hardware = fingerprint().digest()
    with Store.open(db) as store:
        found = store.list_studies(model=model, task=task, hardware=hardware)
        return {"db": store.url_masked, "studies": [summary.to_dict() for summary in found]}


def show(db: str | None, study: str) -> dict[str, Any]:
    """Return a study's document: the stored result, or what is known of an unfinished search.

    Raises:
        StudyNotFoundError: There is none of that name.
        StoreError: The study has no figures yet.
    """
    with Store.open(db) as store:
        record = store.find_study(study)
        if record.result is not None:
            return {**record.result, "db": store.url_masked}
        return _unfinished(store, record.name)


def front(db: str | None, study: str, budget: str | Budget | None = None) -> dict[str, Any]:
    """Return the front for any budget, from stored evaluations alone.

    Args:
        db: Database URL or file; None is the default.
        study: Name of the study.
        budget: None takes the study's own.

    Raises:
        StudyNotFoundError: There is none of that name.
        StoreError: The study has no measurement of the budget's statistic, or none at all.
    """
    with Store.open(db) as store:
        record = store.find_study(study)
        wanted = Budget.parse(budget or str(record.budget["text"]))
        if wanted.statistic != record.budget["statistic"]:
            raise StoreError(
                f"The study {record.name!r} was timed for {record.budget['statistic']}, not {wanted.statistic}.",
                f"Ask with @{record.budget['statistic']}, or search again with this budget.",
            )
        anchor = figures.dense_anchor(store, record.name)
        if anchor is None:
            raise store.unmeasured(record.name)
        limit = wanted.limit_ratio(anchor[wanted.statistic])
        limit_ms = wanted.limit_ms(anchor[wanted.statistic])
        inside = _front_rows(store, record.name, anchor, limit_ms, wanted.statistic)
        best = figures.best_row(inside, limit, wanted.statistic)
        # Only where nothing meets the budget is it worth knowing what comes nearest.
        outside = [] if inside else _front_rows(store, record.name, anchor, None, wanted.statistic)
        return {
            "study": record.name,
            "db": store.url_masked,
            "budget": {"text": wanted.text, "statistic": wanted.statistic, "limit_ms": limit_ms},
            "dense": {"latency_ms": anchor},
            "best": best,
            "nearest_infeasible": figures.nearest_infeasible([r for r in outside if r["trial"]], limit),
            "front": figures.front_rows(inside, limit, wanted.statistic),
        }


def _front_rows(
    store: Store, study: str, anchor: dict[str, float], limit_ms: float | None, statistic: str
) -> list[figures.Row]:
    return figures.rows_of(store, study, store.front(study, limit_ms, statistic), anchor)


def export(
    db: str | None,
    study: str,
    trial: int | None,
    out_dir: Path,
    observer: Observer | None = None,
    *,
    onnx: bool = False,
) -> dict[str, Any]:
    """Write a policy of a study with its model to a folder; see ``engine.exporting.export_trial``."""
    from autoprune.engine.exporting import export_trial

    return export_trial(db, study, trial, out_dir, observer, onnx=onnx)


def bench(directory: Path, observer: Observer | None = None, settings: MeterSettings | None = None) -> dict[str, Any]:
    """Time and score an export again; see ``engine.benching.bench_export``."""
    from autoprune.engine.benching import bench_export

    return bench_export(directory, observer, settings)


def _unfinished(store: Store, study: str) -> dict[str, Any]:
    """Return the document of a search that was killed: everything that was saved."""
    record = store.find_study(study)
    anchor = figures.dense_anchor(store, study)
    if anchor is None:
        raise store.unmeasured(study)
    statistic = str(record.budget["statistic"])
    limit = float(record.budget["limit_ms"]) / anchor[statistic]
    found = figures.rows(store, study)
    tried = [r for r in found if r["trial"] != 0]
    scored = [e.n_examples for e in store.evaluations(study, samples=False) if e.trial == 0]
    return {
        "schema_version": 1,
        "study": study,
        "db": store.url_masked,
        "budget": record.budget,
        "status": "interrupted",
        "running": store.is_locked(study),
        "dense": {
            "latency_ms": anchor,
            "score": next((r["score"] for r in found if r["trial"] == 0), None),
            "n_examples": max(scored, default=0),
            "drift": drift_facts(store, study),
        },
        "metric": record.task.get("metric"),
        "floor_ms": float(record.config["probe"]["floor_ratio"]) * anchor[statistic],
        "workload": record.workload,
        "hardware": record.hardware,
        "best": None,
        "nearest_infeasible": figures.nearest_infeasible(tried, limit),
        "front": figures.front_rows(found, limit, statistic),
        "trials": _trials(store, study),
        "elapsed_s": None,
        "versions": record.versions,
    }


def _trials(store: Store, study: str) -> dict[str, int]:
    import optuna  # local: a second, and only a search that was killed needs it

    from autoprune.engine.document import trial_counts

    try:
        return trial_counts(optuna.load_study(study_name=study, storage=store.storage))
    except KeyError:  # killed before Optuna's study was made
        return trial_counts(None)

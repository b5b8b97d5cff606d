"""MLflow (extra ``mlflow``): the same figures and artifacts in a tracker."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune.errors import MissingExtraError
from autoprune.report.card import render_card
from autoprune.report.gather import ReportData, gather, packed_samples
from autoprune.report.html import render
from autoprune.report.words import pick

if TYPE_CHECKING:
    from autoprune.store.repository import Store
    from autoprune.store.rows import TrialPoint

_LONGEST_PARAM = 500  # MLflow's own limit of older servers


class MlflowCallback:
    """Logs a study as one MLflow run: trials as steps, the result as metrics, policy and report as files.

    Args:
        tracking_uri: MLflow's address, such as ``sqlite:///mlflow.db``; None: MLFLOW_TRACKING_URI or MLflow's default.
        experiment: Name of the experiment; made if missing.

    Raises:
        MissingExtraError: MLflow is not installed.
    """

    def __init__(self, tracking_uri: str | None = None, experiment: str = "autoprune") -> None:
        try:
            from mlflow import MlflowClient
        except ImportError:
            raise MissingExtraError(
                "Logging to MLflow needs MLflow, which is not installed.",
                "Install it with: pip install 'autoprune[mlflow]'.",
            ) from None
        self._client: Any = MlflowClient(tracking_uri=tracking_uri)
        found = self._client.get_experiment_by_name(experiment)
        self._experiment = found.experiment_id if found else self._client.create_experiment(experiment)
        self._logged: set[int] = set()
        self._run: str | None = None

    @property
    def run_id(self) -> str | None:
        """The MLflow run, once something was logged."""
        return self._run

    def __call__(self, store: Store, study: str) -> None:
        """Log what is new: call it after every trial if you like, and at the end.

        Args:
            store: The open database.
            study: Name of the study.
        """
        data = gather(store, study)
        if self._run is None:
            self._run = self._start(data)
        for point in data.points:
            if point.trial not in self._logged:
                self._log_trial(point)
                self._logged.add(point.trial)
        if data.result:
            self._finish(data, packed_samples(store, data.study.name, data.result))

    def _start(self, data: ReportData) -> str:
        run: str = self._client.create_run(self._experiment, run_name=data.study.name).info.run_id
        study = data.study
        facts = {
            "study": study.name, "budget": study.budget.get("text"), "model": study.model.get("name"),
            "task": study.task.get("name"), "workload": study.workload.get("describe"),
            "hardware": study.hardware.get("describe"),
            **{f"option.{key}": value for key, value in (study.config.get("options") or {}).items()},
            **{f"version.{key}": value for key, value in study.versions.items()},
        }  # fmt: skip
        for key, value in facts.items():
            if value is not None:
                self._client.log_param(run, key, str(value)[:_LONGEST_PARAM])
        return run

    def _log_trial(self, point: TrialPoint) -> None:
        for name in ("latency_ms", "latency_hi_ms", "score", "drop", "kl", "agreement", "ratio", "flops_ratio"):
            value = getattr(point, name)
            if value is not None:
                self._client.log_metric(self._run, name, float(value), step=point.trial)

    def _finish(self, data: ReportData, samples: bytes | None) -> None:
        for name, value in _final(data).items():
            self._client.log_metric(self._run, name, float(value))
        self._client.set_tag(self._run, "status", data.study.status)
        best = pick(data.best, "policy")
        if best is not None:
            self._client.log_dict(self._run, best, "autoprune_policy.json")
        self._client.log_dict(self._run, data.result, "result.json")
        self._client.log_text(self._run, render_card(data), "card.md")
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.html"
            report.write_text(render(data), encoding="utf-8")
            self._client.log_artifact(self._run, str(report))
            if samples is not None:
                packed = Path(folder) / "latency.npz"
                packed.write_bytes(samples)
                self._client.log_artifact(self._run, str(packed))
        self._client.set_terminated(self._run, "KILLED" if data.study.status == "interrupted" else "FINISHED")


def _final(data: ReportData) -> dict[str, float]:
    best = data.best or {}
    figures = {
        "best_latency_ms": pick(best, "latency_ms", data.statistic), "best_score": best.get("score"),
        "best_drop": best.get("drop"), "best_speedup": best.get("speedup"), "best_kl": best.get("kl"),
        "dense_latency_ms": data.dense_ms, "dense_score": data.dense_score, "floor_ms": data.floor_ms,
        "limit_ms": data.limit_ms, "hypervolume": data.hypervolume, "prediction_error": data.prediction_error,
    }  # fmt: skip
    return {name: value for name, value in figures.items() if value is not None}


def log_study(store: Store, study: str, tracking_uri: str | None = None, experiment: str = "autoprune") -> str:
    """Log a finished study, and return MLflow's run id; see ``MlflowCallback``."""
    callback = MlflowCallback(tracking_uri, experiment)
    callback(store, study)
    return callback.run_id or ""

"""The same figures in MLflow, against a local SQLite store."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from autoprune.errors import MissingExtraError
from autoprune.report.gather import gather
from autoprune.report.mlflow import MlflowCallback, log_study
from autoprune.store import Store

README = Path(__file__).resolve().parents[2] / "README.md"


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed (pip install 'autoprune[mlflow]')")
    monkeypatch.chdir(tmp_path)  # MLflow puts artifacts below the working directory
    return mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")


def test_figures_and_artifacts(store: Store, client: Any, tmp_path: Path) -> None:
    run_id = log_study(store, "s", f"sqlite:///{tmp_path}/mlflow.db", "pruning")
    data = gather(store, "s")
    run = client.get_run(run_id)
    best = data.best or {}
    assert run.info.run_name == "s"
    assert run.info.status == "FINISHED"
    assert run.data.tags["status"] == "met"
    assert run.data.params["budget"] == "20ms"
    assert run.data.params["version.torch"] == "2.13.0"
    assert run.data.metrics["best_score"] == best["score"]
    assert run.data.metrics["best_latency_ms"] == best["latency_ms"]["p50"]
    assert run.data.metrics["limit_ms"] == 20.0
    history = client.get_metric_history(run_id, "latency_ms")
    assert {entry.step: entry.value for entry in history} == {p.trial: p.latency_ms for p in data.points}
    files = {entry.path for entry in client.list_artifacts(run_id)}
    assert files == {"autoprune_policy.json", "result.json", "card.md", "report.html", "latency.npz"}
    policy = Path(client.download_artifacts(run_id, "autoprune_policy.json", str(tmp_path)))
    assert json.loads(policy.read_text()) == best["policy"]
    samples = Path(client.download_artifacts(run_id, "latency.npz", str(tmp_path))).read_bytes()
    taken = [m for m in store.measurements("s") if m.trial == best["trial"]]
    assert samples == taken[-1].samples


def test_the_example_in_the_readme_is_true(store: Store, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    [example] = [
        part for part in README.read_text().split("```") if part.startswith("python\n") and "log_study" in part
    ]
    monkeypatch.setenv("AUTOPRUNE_DB", str(store.address.path))
    exec(example.removeprefix("python").replace("STUDY", "s"), {})
    [experiment] = [found for found in client.search_experiments() if found.name == "autoprune"]
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "s"


def test_no_password_is_logged(with_password: Store, client: Any, tmp_path: Path) -> None:
    run_id = log_study(with_password, "s", f"sqlite:///{tmp_path}/mlflow.db")
    assert client.get_run(run_id).data.params["option.sampler"] == "tpe"
    assert "option.db" not in client.get_run(run_id).data.params


def test_calling_after_every_trial_logs_each_once(store: Store, client: Any, tmp_path: Path) -> None:
    callback = MlflowCallback(f"sqlite:///{tmp_path}/mlflow.db")
    assert callback.run_id is None
    for _ in range(2):
        callback(store, "s")
    assert len(client.get_metric_history(callback.run_id, "score")) == len(store.points("s"))


def test_without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingExtraError) as caught:
        MlflowCallback()
    assert "autoprune[mlflow]" in caught.value.hint

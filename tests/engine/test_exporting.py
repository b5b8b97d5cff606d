"""An export needs the study and its model; the data may have gone."""

from dataclasses import replace

import autoprune
from autoprune.engine.exporting import export_trial
from autoprune.policy import PruningPolicy, Stage
from autoprune.store import MeasurementRow, Store
from autoprune.tasks.base import TaskSpec, load_model
from autoprune.tasks.digests import model_digest
from autoprune.testing.studies import study_record

POLICY = PruningPolicy(stages=(Stage("input", "truncate", keep=0.5),))


def test_export_works_anywhere_and_without_the_data(small_model, tmp_path, monkeypatch):
    spec = TaskSpec(model=str(small_model), dataset=str(tmp_path / "gone.csv"))
    record = study_record("s")
    model, _ = load_model(spec)
    with Store.open(tmp_path / "s.db") as store:
        store.create_study(replace(record, task=record.task | spec.to_dict(), model={"digest": model_digest(model)}))
        stats = {"dense": {"p50": 48.0}, "policy": {"p50": 48.0}}
        store.add_measurement("s", 0, store.add_policy(PruningPolicy()), MeasurementRow("probe", stats, 1.0))
        store.set_result("s", "met", {"best": {"trial": 1, "policy": POLICY.to_dict(), "score": 0.9}})
    monkeypatch.chdir("/")
    written = export_trial(str(tmp_path / "s.db"), "s", None, tmp_path / "out")
    assert autoprune.load(written["directory"]).config.num_hidden_layers == model.config.num_hidden_layers

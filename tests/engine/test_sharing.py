"""What one study scored the next ones of the same model, data and arithmetic need not score."""

from types import SimpleNamespace

import numpy as np
import pytest

from autoprune.engine import resume

WORKLOAD = {"dtype": "float32", "device": "cpu", "attention": "sdpa"}
SESSION = SimpleNamespace(
    task=SimpleNamespace(model_digest="model", fingerprint="data"),
    workload=SimpleNamespace(to_dict=lambda: {**WORKLOAD, "threads": 2}),
)


class Studies:
    """A store of studies, the latest first, as the real one lists them."""

    def __init__(self, records):
        self.records = records

    def list_studies(self, model):
        assert model == "model"
        return [SimpleNamespace(name=name) for name in self.records]

    def get_study(self, name):
        return self.records[name]


def record(data="data", **workload):
    return SimpleNamespace(workload={**WORKLOAD, "threads": 1, **workload}, task={"data": data})


@pytest.fixture
def shared(monkeypatch):
    """Return what is shared of studies whose logits are given by name and digest."""

    def find(records, logits):
        monkeypatch.setattr(resume, "stored_logits", lambda _store, name: logits[name])
        return resume.shared_logits(Studies(records), SESSION, "own")

    return find


def rows(n, value=0.0):
    return np.full((n, 2), value, dtype=np.float32)


def test_the_latest_studies_are_shared_not_the_oldest(shared):
    names = [f"s{number}" for number in range(resume._STUDIES + 2)]
    found = shared({name: record() for name in names}, {name: {f"policy of {name}": rows(3)} for name in names})
    assert sorted(found) == sorted(f"policy of {name}" for name in names[: resume._STUDIES])


def test_a_study_of_other_arithmetic_or_data_its_own_and_a_deleted_one_do_not_count(shared):
    records = {
        "own": record(),
        "half": record(dtype="bfloat16"),
        "eager": record(attention="eager"),
        "other data": record("others"),
        "deleted": None,
        "alike": record(),
    }
    found = shared(records, {name: {name: rows(3)} for name in records})
    assert list(found) == ["alike"]


def test_the_longest_scoring_of_a_policy_is_taken(shared):
    logits = {"new": {"p": rows(64)}, "old": {"p": rows(256, 1.0)}, "older": {"p": rows(64, 2.0)}}
    found = shared({name: record() for name in logits}, logits)
    assert found["p"].shape == (256, 2)
    assert found["p"][0, 0] == 1.0

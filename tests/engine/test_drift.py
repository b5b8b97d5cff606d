"""Drift of dense across a study: found, kept through a resume, shown with the result."""

import numpy as np
import pytest

from autoprune.engine import queries
from autoprune.engine.drift import DenseWatch, drift_facts, restored_watch
from autoprune.engine.record import Recorder
from autoprune.latency.stats import LatencyStats
from autoprune.latency.timing import PairedTiming
from autoprune.policy import PruningPolicy, Stage
from autoprune.store.repository import Store
from autoprune.store.rows import MeasurementRow
from autoprune.testing.studies import study_record

DENSE = LatencyStats(50.0, 55.0, 56.0, 51.0, 1.0)


def timing(dense_ms):
    dense = np.full((4, 3), round(dense_ms * 1e6))
    return PairedTiming(dense_ns=dense, policy_ns=dense // 2)


def test_two_slow_timings_are_no_move_and_three_are():
    watch = DenseWatch.of(DENSE)
    for ms in (60, 60, 50, 60, 60):
        assert watch.observe(timing(ms))[1] is None
    kept, words = watch.observe(timing(62))
    assert kept["drift"] == pytest.approx(0.24)
    assert kept["anchor"]["p50"] == pytest.approx(60.0)
    assert "+20% against 50.0 ms" in words
    assert (watch.first.dense, watch.latest.dense.p50) == (DENSE, 60.0)


def test_a_machine_that_comes_back_is_said_too():
    watch = DenseWatch.of(DENSE)
    said = [watch.observe(timing(ms))[1] for ms in (60, 60, 60, 60, 50, 50, 50)]
    assert [text is not None for text in said] == [False, False, True, False, False, False, True]
    assert "50.0 ms now, +0%" in said[-1]


def test_drift_is_read_back_from_the_store(tmp_path):
    with Store.open(tmp_path / "studies.db") as store:
        name = "drifting"
        store.create_study(study_record(name))
        dense = {"dense": DENSE.to_dict(), "policy": DENSE.to_dict()}
        store.add_measurement(name, 0, store.add_policy(PruningPolicy()), MeasurementRow("probe", dense, 1.0))
        assert drift_facts(store, name)["timings"] == 0
        watch, recorder = DenseWatch.of(DENSE), Recorder(store, name)
        for trial, ms in enumerate((50, 60, 60, 60), start=1):
            policy = PruningPolicy((Stage("input", "truncate", keep=trial / 10),))
            recorder.policy(policy)
            kept, _ = watch.observe(timing(ms))
            recorder.measurement("search", trial, policy.digest(), timing(ms), "p50", 25.0, extra=kept)
        facts = drift_facts(store, name)
        assert facts["timings"] == 4
        assert (facts["lowest"], facts["highest"], facts["last"]) == pytest.approx((0.0, 0.2, 0.2))
        assert facts["moved"]
        assert facts["latency_ms"] == pytest.approx({"p50": 60.0, "p95": 60.0, "mean": 60.0})
        again = restored_watch(store, name, DENSE)
        assert (again.first.dense, again.latest.dense.p50) == (DENSE, 60.0)
    assert queries.show(str(tmp_path / "studies.db"), name)["dense"]["drift"] == facts

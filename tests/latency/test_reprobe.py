"""A stored probe is taken over only while dense takes as long as it did."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from autoprune.latency import reprobe as room
from autoprune.latency.probe import ProbeResult, probe
from autoprune.latency.reprobe import adopt, covers, recheck
from autoprune.latency.timing import PairedTiming
from autoprune.latency.workload import Workload

WORKLOAD = Workload.fixed(32, 2)


@pytest.fixture
def stored(bert: Any, make_batch: Any) -> ProbeResult:
    return probe(bert, [make_batch(32)] * 2, WORKLOAD, scorers=("random", "cls_attention"), reducers=("fuse",))


def dense_at(milliseconds: float, drift: float = 0.0) -> PairedTiming:
    slope = 1 + drift * np.linspace(-1, 1, 12)[:, None]
    dense = np.round(milliseconds * 1e6 * slope * np.ones((1, 2))).astype(np.int64)
    return PairedTiming(dense_ns=dense, policy_ns=dense // 4)


def check(stored: ProbeResult, bert: Any, make_batch: Any, statistic: str = "p50") -> room.Recheck:
    return recheck(stored, bert, [make_batch(32)] * 2, WORKLOAD, statistic=statistic)


def test_the_real_check_times_dense_and_the_stored_floor(stored: ProbeResult, bert: Any, make_batch: Any) -> None:
    monstrous = replace(stored, dense=replace(stored.dense, p50=stored.dense.p50 * 1000))
    found = check(monstrous, bert, make_batch)
    assert found.result is None
    assert "% against the stored" in found.why
    assert not any(m._forward_pre_hooks for m in bert.modules())


@pytest.mark.parametrize(("factor", "reused"), [(1.0, True), (1.09, True), (0.91, True), (1.12, False), (0.88, False)])
def test_ten_per_cent_decide(
    stored: ProbeResult, bert: Any, make_batch: Any, monkeypatch: pytest.MonkeyPatch, factor: float, reused: bool
) -> None:
    now = dense_at(stored.dense.p50 * factor)
    monkeypatch.setattr(room, "_pair", lambda *_: now)
    found = check(stored, bert, make_batch, "p95")
    assert (found.result is not None) == reused
    if found.result is not None:
        assert found.result.dense == now.stats("dense")
        assert (found.result.statistic, found.result.floor_ratio) == ("p95", now.ratio("p95"))
        assert found.result.floor_ms == pytest.approx(now.stats("policy").p95)
        assert found.result.cost_table == stored.cost_table
        assert found.result.sweep == stored.sweep


def test_a_drifting_machine_reuses_nothing(
    stored: ProbeResult, bert: Any, make_batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_pair", lambda *_: dense_at(stored.dense.p50, drift=0.4))
    found = check(stored, bert, make_batch)
    assert found.result is None
    assert "meanwhile" in found.why


def test_a_new_probe_keeps_what_only_the_old_one_knows(stored: ProbeResult, bert: Any, make_batch: Any) -> None:
    old = replace(
        stored, dense=replace(stored.dense, p50=stored.dense.p50 * 2), notes=["saliency: its cost was not measured (x)"]
    )
    new = probe(bert, [make_batch(32)] * 2, WORKLOAD, scorers=("random", "norm"), reducers=("merge",))
    both = adopt(new, old)
    assert covers(both, ["random", "cls_attention", "norm", "saliency"], ["drop", "fuse", "merge"])
    assert both.cost_table.scorers["random@layer"] == new.cost_table.scorers["random@layer"]
    scale = new.dense.p50 / old.dense.p50
    line, then = both.cost_table.scorers["cls_attention@layer"], old.cost_table.scorers["cls_attention@layer"]
    assert (line.base_ms, line.per_token_ms) == (then.base_ms * scale, then.per_token_ms * scale)
    assert both.scorer_ms["cls_attention@layer"] == pytest.approx(old.scorer_ms["cls_attention@layer"] * scale)
    assert ProbeResult.from_dict(both.to_dict()).scorer_ms == both.scorer_ms


def test_what_was_not_asked_then_is_not_covered(stored: ProbeResult) -> None:
    assert covers(stored, ["random", "cls_attention"], ["drop", "fuse"])
    assert not covers(stored, ["random", "norm"], [])
    assert not covers(stored, [], ["merge"])
    assert not covers(stored, None, None)
    refused = replace(
        stored, notes=["norm: its cost was not measured (why)", "reduce:merge: its cost was not measured (y)"]
    )
    assert covers(refused, ["norm"], ["merge"])

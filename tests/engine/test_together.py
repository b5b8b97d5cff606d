"""Policies timed in company: whose fault an error is, and what is timed again."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from autoprune.config import SearchConfig
from autoprune.engine import checking
from autoprune.engine.events import Observer
from autoprune.engine.places import LocalPlace
from autoprune.engine.session import open_session
from autoprune.engine.timing import Timer
from autoprune.engine.together import time_together, why_not
from autoprune.errors import MeasurementError, PolicyError, WaitStoppedError, WorkerError
from autoprune.latency.meter import Meter
from autoprune.latency.timing import PairedTiming
from autoprune.policy import PruningPolicy, Stage

STEADY = np.full((9, 4), 50_000_000)
DRIFTING = np.repeat([40_000_000, 50_000_000, 60_000_000], 3)[:, None].repeat(4, axis=1)


class FakeTimer:
    """Policies are names; those in ``bad`` cannot be timed, and dense drifts in the first ``drifts`` measurements."""

    def __init__(self, bad=(), drifts=0, error=None):
        self.bad, self.drifts, self.error = bad, drifts, error or PolicyError("No such layer.")
        self.calls = []

    def measure_together(self, policies):
        self.calls.append(list(policies))
        if set(policies) & set(self.bad):
            raise self.error
        dense = DRIFTING if len(self.calls) <= self.drifts else STEADY
        return [PairedTiming(dense_ns=dense, policy_ns=dense // 2) for _ in policies]


def test_all_are_timed_at_once():
    timer = FakeTimer()
    assert len(time_together(timer, ["a", "b", "c"])) == 3
    assert timer.calls == [["a", "b", "c"]]


@pytest.mark.parametrize("error", [PolicyError("No such layer."), RuntimeError("CUDA out of memory")])
def test_one_that_cannot_be_timed_fails_alone(error):
    timer = FakeTimer(bad=["b"], error=error)
    first, second, third = time_together(timer, ["a", "b", "c"])
    assert second is error
    assert isinstance(first, PairedTiming)
    assert isinstance(third, PairedTiming)
    assert timer.calls == [["a", "b", "c"], ["a"], ["b"], ["c"]]


@pytest.mark.parametrize("error", [MeasurementError("no"), WaitStoppedError("no"), WorkerError("no")])
def test_the_machine_s_fault_is_nobody_s(error):
    timer = FakeTimer(bad=["b"], error=error)
    with pytest.raises(type(error)):
        time_together(timer, ["a", "b"])
    assert timer.calls == [["a", "b"]]


@pytest.mark.parametrize("drifts", [1, 5])
def test_drift_is_looked_at_once_more(drifts):
    timer = FakeTimer(drifts=drifts)
    timed = time_together(timer, ["a", "b"])
    assert timer.calls == [["a", "b"]] * 2
    assert [one.drifted for one in timed] == [drifts > 1] * 2


def test_who_is_in_a_hurry_takes_what_drifted():
    timer = FakeTimer(drifts=1)
    (timed,) = time_together(timer, ["a"], hurry=lambda: True)
    assert timed.drifted
    assert timer.calls == [["a"]]


def test_only_whose_dense_drifted_is_timed_again():
    steady, drifting = (PairedTiming(dense_ns=dense, policy_ns=dense // 2) for dense in (STEADY, DRIFTING))
    answers = iter([[steady, drifting], [steady]])
    asked = []

    def measure_together(policies):
        asked.append(list(policies))
        return next(answers)

    assert time_together(SimpleNamespace(measure_together=measure_together), ["a", "b"]) == [steady, steady]
    assert asked == [["a", "b"], ["b"]]


def test_a_repeat_that_cannot_begin_loses_nothing():
    answers = iter([[PairedTiming(dense_ns=dense, policy_ns=dense // 2) for dense in (STEADY, DRIFTING)]])

    def measure_together(policies):
        try:
            return next(answers)
        except StopIteration:
            raise WaitStoppedError("Another process is timing.") from None

    timed = time_together(SimpleNamespace(measure_together=measure_together), ["a", "b"])
    assert [one.drifted for one in timed] == [False, True]


class Checked:
    """A timer for ``check_policies``: policies are ratios."""

    statistic = "p50"

    def __init__(self, drifts=0):
        self.calls, self.drifts = [], drifts

    def measure_together(self, policies, settings):
        self.calls.append(list(policies))
        self.reference = settings.reference
        if len(self.calls) <= self.drifts:
            return [
                PairedTiming(dense_ns=DRIFTING, policy_ns=(DRIFTING * ratio).astype(np.int64)) for ratio in policies
            ]
        rng = np.random.default_rng(0)
        dense = rng.normal(50e6, 1e5, (9, 4)).astype(np.int64)
        return [PairedTiming(dense_ns=dense, policy_ns=(dense * ratio).astype(np.int64)) for ratio in policies]


@pytest.mark.parametrize(
    ("limit", "groups"),
    [
        (0.5, [[0.45, 0.4]]),
        (0.42, [[0.45, 0.4]]),
        (0.3, [[0.45, 0.4], [0.2]]),
        (0.1, [[0.45, 0.4], [0.2]]),
        (None, [[0.45, 0.4], [0.2]]),
    ],
)
def test_winners_are_verified_in_twos_until_one_meets_the_limit(monkeypatch, limit, groups):
    monkeypatch.setattr(checking, "flops_ratio", lambda timer, policy: policy / 2)
    monkeypatch.setattr(checking, "tokenise_ms", lambda timer: 1.0)
    timer = Checked()
    found = list(checking.check_policies(timer, [0.45, 0.4, 0.2], limit))
    assert timer.calls == groups
    assert timer.reference == (limit or 0.0)
    ratios = [ratio for group in groups for ratio in group]
    assert [one.flops_ratio for one in found] == [ratio / 2 for ratio in ratios]
    assert [one.timing.ratio() for one in found] == pytest.approx(ratios, rel=1e-3)


@pytest.mark.parametrize(("drifts", "groups"), [(1, [[0.45, 0.4]] * 2), (2, [[0.45, 0.4]] * 2 + [[0.2]])])
def test_winners_whose_dense_drifted_are_verified_once_more(monkeypatch, drifts, groups):
    monkeypatch.setattr(checking, "flops_ratio", lambda timer, policy: None)
    monkeypatch.setattr(checking, "tokenise_ms", lambda timer: 1.0)
    timer = Checked(drifts)
    found = list(checking.check_policies(timer, [0.45, 0.4, 0.2], 0.5))
    assert timer.calls == groups
    assert [one.timing.drifted for one in found[:2]] == [drifts > 1] * 2


def test_reasons_are_told_in_words():
    assert why_not(PolicyError("No such layer.", "Try another.")) == "No such layer."
    assert why_not(RuntimeError("CUDA out of memory")) == "cannot be timed: RuntimeError: CUDA out of memory"


def test_sessions_with_weights_of_their_own_are_not_held_at_once(monkeypatch):
    held = []
    monkeypatch.setattr(Timer, "measure", lambda self, policy, settings: held.append(policy) or policy)
    timer = Timer(None, None, SimpleNamespace(runtime="onnxruntime"), [], None, "p50")
    assert timer.measure_together(["a", "b", "c"]) == ["a", "b", "c"] == held


def test_each_runner_runs_its_own_policy_whoever_runs_beside_it(options, monkeypatch):
    policies = [
        PruningPolicy((Stage("input", "truncate", keep=0.5),)),
        PruningPolicy((Stage(1, "cls_attention", keep=0.25),)),
        PruningPolicy(),
    ]
    outputs = []

    def keep_outputs(self, dense, runners, inputs, statistic):
        outputs.append([[run(batch).logits for run in (dense, *runners)] for batch in inputs])
        return [None] * len(runners)

    monkeypatch.setattr(Meter, "measure_together", keep_outputs)
    config = SearchConfig.of(**options)
    timer = open_session(config, Observer(), LocalPlace()).timer()
    timer.measure_together(policies)
    for policy in policies:
        timer.measure(policy)
    together, alone = outputs[0], outputs[1:]
    for index, batch in enumerate(together):
        for side in range(len(policies)):
            torch.testing.assert_close(batch[0], alone[side][index][0])
            torch.testing.assert_close(batch[1 + side], alone[side][index][1])
        assert not torch.equal(batch[1], batch[2])
        torch.testing.assert_close(batch[3], batch[0])

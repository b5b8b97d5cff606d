"""The sensitivity profile: which policies go to which worker, and what is made of their outcomes."""

from collections import Counter, deque
from types import SimpleNamespace

import numpy as np
import pytest

from autoprune.engine.events import Observer
from autoprune.engine.profiling import EXAMPLES, kept_profile, profile_policies, run_profile
from autoprune.engine.scoreboard import Scoreboard
from autoprune.evaluate.evaluator import Outcome
from autoprune.policy import PruningPolicy
from autoprune.spaces.schema import load_space_file
from autoprune.spaces.space import Space

N_LAYERS = 6
TABLES = {"lexicon": "sha256:" + "0" * 64}


class Groups:
    """A pool that keeps the groups apart and fails what it is told to."""

    def __init__(self, workers, fail=()):
        self.workers, self.fail, self.groups, self.queue = workers, fail, [], deque()

    @property
    def pending(self):
        return len(self.queue)

    def submit(self, *jobs):
        self.groups.append(jobs)
        self.queue.extend(jobs)

    def next(self):
        job = self.queue.popleft()
        if job.policy.stages[0].scorer in self.fail:
            return Outcome(job, None, 0.0, "RuntimeError: no")
        lost = 1.0 - job.policy.stages[0].keep
        return Outcome(job, np.tile([lost, 0.0], (job.stop - job.start, 1)).astype(np.float32), 0.1)


class Steps(Observer):
    def __init__(self):
        self.total, self.done = None, 0

    def phase(self, name, total=None):
        self.total = total

    def advance(self, n=1):
        self.done += n


@pytest.fixture
def setting():
    space = Space(load_space_file("quick"), N_LAYERS)
    task = SimpleNamespace(labels=None, metric=SimpleNamespace(score=None))
    return profile_policies(space, TABLES), Scoreboard(task, np.zeros((80, 2), dtype=np.float32))


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_worker_has_one_group_and_each_policy_is_scored_once(setting, workers):
    plan, scoreboard = setting
    pool, steps = Groups(workers), Steps()
    found = run_profile(plan, N_LAYERS, pool, scoreboard, steps)
    assert len(pool.groups) == workers
    jobs = [job for group in pool.groups for job in group]
    assert set(Counter(job.key for job in jobs).values()) == {1}
    assert {(job.start, job.stop) for job in jobs} == {(0, EXAMPLES)}
    assert steps.total == steps.done == len(jobs) == 20
    assert {label: len(probes) for label, probes in found.items()} == {label: len(p) for label, p in plan.items()}


def test_every_layer_is_probed_and_three_of_them_twice(setting):
    plan, _ = setting
    layers = Counter(layer for layer, _ in plan["cls_attention"])
    assert layers == {1: 2, 2: 2, 3: 1, 4: 2, 5: 1}
    deep = profile_policies(Space(load_space_file("quick"), 80), TABLES)
    assert 20 < len({layer for layer, _ in deep["cls_attention"]}) < 30


def test_a_profile_that_lacks_a_probe_is_measured_anew_and_loses_nothing(setting):
    plan, scoreboard = setting
    kept = {"cls_attention": [[1, 9.0, 0.5]], "other": [[0, 1.0, 0.1]]}
    times = []

    def measure():
        times.append(1)
        return run_profile(plan, N_LAYERS, Groups(1), scoreboard, Observer())

    for _ in range(2):
        kept_profile(kept.copy, kept.update, measure, plan)
    assert len(times) == 1
    assert [1, 9.0, 0.5] in kept["cls_attention"]
    assert len(kept["cls_attention"]) == len(plan["cls_attention"]) + 1
    assert kept["other"] == [[0, 1.0, 0.1]]


def test_policies_that_begin_alike_stand_together(setting):
    plan, scoreboard = setting
    pool = Groups(1)
    run_profile(plan, N_LAYERS, pool, scoreboard, Observer())
    layers = [job.policy.stages[0].layer for job in pool.groups[0]]
    inside = [layer for layer in layers if layer != "input"]
    assert inside == sorted(inside, reverse=True)
    assert layers[len(inside) :] == ["input"] * (len(layers) - len(inside))


def test_a_policy_that_fails_leaves_no_probe(setting):
    plan, scoreboard = setting
    found = run_profile(plan, N_LAYERS, Groups(2, fail=("lexicon",)), scoreboard, Observer())
    assert found["lexicon"] == []
    layer, removal, harm = found["truncate"][0]
    (policy,) = (p for _, p in plan["truncate"][:1])
    assert isinstance(policy, PruningPolicy)
    assert (layer, removal) == (0, pytest.approx(-np.log(policy.stages[0].keep)))
    assert harm > 0


def test_a_probe_that_overflows_is_no_probe(setting):
    plan, scoreboard = setting

    class Overflowing(Groups):
        def next(self):
            outcome = super().next()
            broken = outcome.job.policy.stages[0].scorer == "lexicon"
            return Outcome(outcome.job, np.full_like(outcome.logits, np.nan), 0.1) if broken else outcome

    found = run_profile(plan, N_LAYERS, Overflowing(1), scoreboard, Observer())
    assert found["lexicon"] == []
    assert len(found["truncate"]) == 2


def test_probes_that_failed_are_not_kept_for_good(setting):
    plan, scoreboard = setting
    kept, said = {}, []
    observer = SimpleNamespace(phase=lambda *_: None, advance=lambda *_: None, message=said.append)

    def profile(fail):
        measured = []

        def measure():
            measured.append(1)
            return run_profile(plan, N_LAYERS, Groups(2, fail=fail), scoreboard, observer)

        return kept_profile(kept.copy, kept.update, measure, plan), len(measured)

    first, _ = profile(fail=("lexicon",))
    assert "lexicon" not in kept
    assert "lexicon" not in first.curves
    assert set(kept) == set(plan) - {"lexicon"}
    assert "probes failed, the last one so: RuntimeError: no" in said[0]
    second, times = profile(fail=())
    assert (times, set(second.curves)) == (1, set(plan))
    assert profile(fail=("lexicon",))[1] == 0

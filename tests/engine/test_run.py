"""The loop of a search, with a pool, a timer and a study that cost nothing."""

import threading
import time
from collections import Counter, deque
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from autoprune._registry import SAMPLERS
from autoprune.engine import parts
from autoprune.engine import run as run_module
from autoprune.engine.checking import Extras
from autoprune.engine.drift import DenseWatch
from autoprune.engine.events import Observer
from autoprune.engine.interrupt import Interrupt
from autoprune.engine.landscape.guide import Guide
from autoprune.engine.parts import rung_jobs
from autoprune.engine.projection import Projector
from autoprune.engine.proposals import DIGEST_ATTR, Proposer, known_digests, tell_values
from autoprune.engine.run import Limits, SearchRun
from autoprune.engine.scoreboard import Scoreboard
from autoprune.engine.together import TOGETHER
from autoprune.errors import MeasurementError, UnsupportedModelError
from autoprune.evaluate.evaluator import Outcome
from autoprune.latency.cost_table import CostTable
from autoprune.latency.stats import LatencyStats
from autoprune.latency.timing import PairedTiming
from autoprune.spaces.schema import load_space_file
from autoprune.spaces.space import Space
from autoprune.store.drafts import DraftStorage

N = 512


def accuracy(predictions, labels):
    return float(np.mean(predictions == labels))


class FakePool:
    """Pruned logits are dense ones with noise that grows with what is removed."""

    def __init__(self, dense, workers=1, fail=()):
        self.dense, self.workers, self.fail = dense, workers, fail
        self.queue, self.seen, self.examples = deque(), Counter(), Counter()
        self.overlap = 0
        self.settled = 0

    @property
    def pending(self):
        return len(self.queue)

    @property
    def wanted(self):
        return max(0, self.workers - len(self.queue))

    def submit(self, job):
        self.queue.append(job)

    def wait(self, until):
        pass

    def settle(self):
        assert not self.queue
        self.settled = len(self.seen)

    def next(self):
        job = self.queue.popleft()
        self.seen[job.key, job.start] += 1
        self.examples[job.key] += job.stop - job.start
        if len(self.seen) in self.fail:
            return Outcome(job, None, 0.0, "RuntimeError: no")
        lost = 1.0 - job.policy.stages[-1].keep if job.policy.stages else 0.0
        noise = np.random.default_rng(int(job.key[:8], 16)).normal(0, 4 * lost, self.dense.shape)
        return Outcome(job, (self.dense + noise)[job.start : job.stop].astype(np.float32), 0.1)


class FakeTimer:
    def __init__(self, pool):
        self.pool, self.timed, self.dense_ns = pool, [], 50_000_000
        self.groups = []

    def measure_together(self, policies):
        timings = [self.measure(policy) for policy in policies]
        self.groups.append([policy.digest() for policy in policies])
        return timings

    def measure(self, policy):
        assert self.pool.pending == 0, "timing while the pool works"
        assert self.pool.settled == len(self.pool.seen), "timing while workers may be loading"
        return self.take(policy)

    def take(self, policy):
        self.timed.append(policy.digest())
        ratio = 0.2 + 0.6 * (policy.stages[-1].keep if policy.stages else 1.0)
        dense = np.full((8, 4), self.dense_ns)
        return PairedTiming(dense_ns=dense, policy_ns=(dense * ratio).astype(np.int64))

    def extras(self, policy):
        return Extras(None, 0.0)


class NodeTimer(FakeTimer):
    """On a machine of its own: may work while the pool does."""

    def __init__(self, pool):
        super().__init__(pool)
        self.beside = 0

    def measure(self, policy):
        assert threading.current_thread() is not threading.main_thread()
        self.beside += self.pool.pending > 0
        return self.take(policy)


def here(run):
    return run


def on_a_node(run):
    """Let the run time on a machine of its own, every timing to its end before the pool goes on."""
    run.timer, run.apart = NodeTimer(run.pool), lambda: True
    start = run._beside.start

    def start_and_wait(proposal, call):
        start(proposal, call)
        while not run._beside.done:
            time.sleep(0.001)

    run._beside.start = start_and_wait
    return run


class FakeRecorder:
    study = "s"

    def __init__(self):
        self.evaluations, self.measurements, self.extras = [], [], []

    def policy(self, policy):
        pass

    def evaluation(self, trial, digest, quality, **more):
        self.evaluations.append((trial, digest, quality.n_examples, more["complete"]))

    def measurement(self, kind, trial, digest, *rest, **more):
        self.measurements.append((trial, digest))
        self.extras.append(more["extra"])


@pytest.fixture
def make():
    def build(trials=12, workers=1, fail=(), sampler="random", interrupt=None, storage=None, few_ms=0.5, limit_ms=25.0):
        rng = np.random.default_rng(0)
        dense = (rng.normal(size=(N, 4)) * 3).astype(np.float32)
        task = SimpleNamespace(labels=dense.argmax(1), metric=SimpleNamespace(score=accuracy))
        table = CostTable(
            tokens=(8, 256),
            layers_ms=((few_ms, 8.0),) * 6,
            around_ms=(0.5, 2.0),
            first_token=((8, 0.4), (256, 4.0)),
        )
        space = Space(load_space_file("quick"), 6)
        projector = Projector(table, (256,), 2, "p50", {"lexicon": "sha256:0"}, 50.0)
        study = optuna.create_study(
            storage=storage, directions=["minimize", "maximize"], sampler=SAMPLERS.get(sampler)(1)
        )
        study.enqueue_trial(space.dense_params())
        tell_values(study, study.ask(space.distributions()), 50.0, 1.0, 25.0)
        pool, recorder = FakePool(dense, workers, fail), FakeRecorder()
        return SearchRun(
            study=study,
            proposer=Proposer(study, Guide(space, projector, limit_ms, 5.0)),
            pool=pool,
            timer=FakeTimer(pool),
            scoreboard=Scoreboard(task, dense),
            recorder=recorder,
            watch=DenseWatch.of(LatencyStats(50.0, 55.0, 56.0, 51.0, 1.0)),
            limits=Limits(trials, 0.5, "p50", {"p50": 50.0, "p95": 55.0, "mean": 51.0}),
            observer=Observer(),
            interrupt=interrupt or Interrupt(),
        )

    return build


def test_refused_proposals_leave_no_trace_and_change_nothing_for_who_learns_nothing_from_them(make):
    told, dropped = make(), make(storage=DraftStorage(InMemoryStorage()))
    told.run()
    dropped.run()
    tried = [[t.user_attrs.get("policy_digest") for t in run.study.get_trials()[1:]] for run in (told, dropped)]
    assert None in tried[0]
    assert tried[1] == [digest for digest in tried[0] if digest is not None]


@pytest.mark.parametrize("workers", [1, 4])
def test_every_trial_ends_and_nothing_is_evaluated_twice(make, workers):
    run = make(trials=12, workers=workers)
    run.run()
    states = Counter(t.state for t in run.study.trials if DIGEST_ATTR in t.user_attrs)
    assert states[TrialState.COMPLETE] + states[TrialState.PRUNED] == 12
    assert not [t for t in run.study.trials if t.state is TrialState.RUNNING]
    assert max(run.pool.seen.values()) == 1
    assert len(set(run.timer.timed)) == len(run.timer.timed) == states[TrialState.COMPLETE]


def test_policies_are_timed_when_scored_on_all_examples_unless_beaten_there(make):
    run = make(trials=12)
    run.run()
    complete = {digest for _, digest, n, whole in run.recorder.evaluations if whole and n == N}
    assert set(run.timer.timed) <= complete
    for trial in run.study.get_trials(states=(TrialState.PRUNED,)):
        digest = trial.user_attrs.get(DIGEST_ATTR)
        if digest is not None:
            assert digest not in run.timer.timed
            assert trial.user_attrs["why"] == f"beaten after {run.pool.examples[digest]} examples"


def test_kl_at_every_rung_stands_beside_the_trial(make):
    run = make(trials=8)
    run.run()
    for trial in run.study.get_trials(deepcopy=False)[1:]:
        if DIGEST_ATTR in trial.user_attrs:
            rungs = trial.user_attrs["kl"]
            sizes = [n for n, _, _ in rungs]
            assert sizes == [n for n in (64, 256, N) if n <= run.pool.examples[trial.user_attrs[DIGEST_ATTR]]]
            assert all(kl >= 0 and error >= 0 for _, kl, error in rungs)


@pytest.mark.parametrize("place", [here, on_a_node])
def test_a_policy_that_the_runtime_cannot_run_fails_alone(make, place):
    run = place(make(trials=12))
    measure, refused = run.timer.measure, []

    def refuse(policy):
        refused[:] = refused or [policy.digest()]
        if policy.digest() in refused:
            raise UnsupportedModelError("It cannot be exported to ONNX: no.")
        return measure(policy)

    run.timer.measure = refuse
    run.run()
    (failed,) = run.study.get_trials(states=(TrialState.FAIL,))
    assert failed.user_attrs["why"] == "It cannot be exported to ONNX: no."
    assert run.timer.timed


def test_a_node_of_its_own_times_while_the_pool_scores(make):
    run, alone = on_a_node(make(trials=24, workers=4)), make(trials=24, workers=4)
    run.run()
    alone.run()
    states = Counter(t.state for t in run.study.trials if DIGEST_ATTR in t.user_attrs)
    assert states[TrialState.COMPLETE] + states[TrialState.PRUNED] == 24
    assert not [t for t in run.study.trials if t.state is TrialState.RUNNING]
    assert len(set(run.timer.timed)) == len(run.timer.timed) == states[TrialState.COMPLETE]
    assert run.timer.beside > len(run.timer.timed) / 2
    assert alone.timer.timed


def test_a_node_that_is_lost_ends_the_search(make):
    run = on_a_node(make(trials=12))

    def lost(policy):
        raise MeasurementError("The node died.", "Run it again.")

    run.timer.measure = lost
    with pytest.raises(MeasurementError, match="The node died"):
        run.run()


def test_what_was_timed_beside_a_worker_that_came_is_timed_again(make):
    run = make(trials=12, workers=2)
    timer, moments = run.timer, iter([True, True, False])  # at the start of the search, of a timing, and at its end
    run.apart = lambda: next(moments, False)
    measure, beside = timer.measure, []

    def anywhere(policy):
        if threading.current_thread() is threading.main_thread():
            return measure(policy)
        beside.append(policy.digest())
        return PairedTiming(dense_ns=np.full((8, 4), 1), policy_ns=np.full((8, 4), 1000))

    timer.measure = anywhere
    run.run()
    assert len(beside) == 1
    assert beside[0] in timer.timed
    (trial,) = [t for t in run.study.trials if t.user_attrs.get(DIGEST_ATTR) == beside[0]]
    assert trial.state is TrialState.COMPLETE
    assert trial.values[0] < 50.0


def test_the_pool_is_not_waited_for_longer_than_the_node_needs(make):
    run = make(trials=6)
    run.timer, run.apart = NodeTimer(run.pool), lambda: True
    go = threading.Event()
    measure, run.timer.measure = run.timer.measure, lambda policy: go.wait(10) and measure(policy)

    def wait(until):
        go.set()
        while not until():
            time.sleep(0.001)

    run.pool.wait = wait
    run.run()
    assert run.tried == 6
    assert run.timer.timed


def test_an_interrupted_search_keeps_what_the_node_is_timing(make):
    interrupt = Interrupt()
    run = on_a_node(make(trials=50, workers=2, interrupt=interrupt))
    start = run._beside.start

    def start_and_interrupt(proposal, call):
        interrupt.requested = True
        start(proposal, call)

    run._beside.start = start_and_interrupt
    run.run()
    assert len(run.timer.timed) == len(run.study.get_trials(states=(TrialState.COMPLETE,))) - 1 == 1
    assert not run._beside.busy
    assert not run.pool.pending


def test_it_stops_when_converged(make):
    run = make(trials=500)
    run.limits.converged = True
    run.run()
    assert run.convergence.converged
    assert run.tried < 500


def test_progress_tells_pace_and_time_left(make):
    run = make(trials=6)
    shown = {}
    run.observer.update = lambda **fields: shown.update(fields)
    run.run()
    assert float(shown["per_minute"]) > 0
    assert shown["left"] == "0 s"


def test_the_constraint_is_told_with_both_values(make):
    run = make(trials=6)
    run.run()
    for trial in run.study.get_trials(states=(TrialState.COMPLETE,))[1:]:
        assert trial.constraints
        assert len(trial.values) == 2
        assert all((value <= 0) == (trial.values[0] <= 25.0 + 1e-6) for value in trial.constraints.values())


def test_a_failed_candidate_is_told_and_the_search_goes_on(make):
    run = make(trials=6, fail={2})
    run.run()
    failed = run.study.get_trials(states=(TrialState.FAIL,))
    assert [t.user_attrs["why"] for t in failed] == ["RuntimeError: no"]
    assert run.tried == 6
    assert failed[0].user_attrs[DIGEST_ATTR] in known_digests(run.study)


def test_interrupt_leaves_unfinished_policies_to_the_next_sitting(make):
    interrupt = Interrupt()
    run = make(trials=50, interrupt=interrupt)
    told = []
    run.observer.advance = lambda n=1: told.append(n) or setattr(interrupt, "requested", len(told) > 4)
    run.run()
    assert run.tried < 50
    assert not run.pool.pending


def test_predictions_respect_the_budget(make):
    run = make(trials=10)
    for _ in range(10):
        proposal = run.proposer.next()
        assert proposal.predicted_ms <= 25.0 * 0.97 + 1e-9


@pytest.mark.parametrize("storage", [InMemoryStorage, lambda: DraftStorage(InMemoryStorage())])
def test_of_a_space_that_is_too_slow_the_fastest_is_measured(make, storage):
    run = make(limit_ms=2.0, storage=storage())
    said = []
    run.observer.message = said.append
    run.run()
    assert run.exhausted
    assert len(run.timer.timed) == run.tried == 1
    assert ["is measured" in said[0], "exhausted" in said[1], len(said)] == [True, True, 2]
    (trial,) = [t for t in run.study.get_trials()[1:] if DIGEST_ATTR in t.user_attrs]
    assert (trial.state, trial.user_attrs[DIGEST_ATTR]) == (TrialState.COMPLETE, run.timer.timed[0])


@pytest.mark.parametrize("workers", [1, 4])
def test_a_space_that_the_probe_found_too_slow_is_searched_when_its_fastest_is_not(make, workers):
    wrong = {"few_ms": 6.0, "limit_ms": 30.0}
    assert make(**wrong).proposer.next().last_resort
    run = make(trials=6, workers=workers, **wrong)
    run.run()
    assert run.tried == 6
    assert not run.exhausted


@pytest.mark.parametrize("sampler", SAMPLERS.names())
def test_every_sampler_finishes_a_search(make, sampler):
    run = make(trials=10, sampler=sampler)
    run.run()
    assert run.tried == 10
    assert run.timer.timed


def test_drift_of_dense_is_kept_and_said_and_changes_nothing_that_is_told(make):
    steady, moved = make(trials=10), make(trials=10)
    moved.timer.dense_ns = 60_000_000
    said = []
    moved.observer.message = said.append
    steady.run()
    moved.run()
    assert [extra["drift"] for extra in steady.recorder.extras] == pytest.approx([0.0] * len(steady.recorder.extras))
    assert [extra["drift"] for extra in moved.recorder.extras] == pytest.approx([0.2] * len(moved.recorder.extras))
    anchors = [extra["anchor"]["p50"] for extra in moved.recorder.extras if "anchor" in extra]
    assert anchors == [60.0]
    assert "anchor" in moved.recorder.extras[2]
    words = [text for text in said if text.startswith("drift")]
    assert len(words) == 1
    assert "60.0 ms now, +20% against 50.0 ms" in words[0]
    told = [[t.values for t in run.study.get_trials(states=(TrialState.COMPLETE,))] for run in (steady, moved)]
    assert told[0] == told[1]


def test_policies_that_wait_are_timed_in_the_same_rounds_and_their_dense_is_watched_once(make):
    run = make(trials=24, workers=8)
    run.timer.dense_ns = 60_000_000
    run.run()
    groups = run.timer.groups
    assert max(map(len, groups)) == TOGETHER
    assert [digest for group in groups for digest in group] == run.timer.timed
    numbered = {digest: index for index, group in enumerate(groups) for digest in group}
    anchored = [
        numbered[digest]
        for (_, digest), extra in zip(run.recorder.measurements, run.recorder.extras, strict=True)
        if "anchor" in extra
    ]
    assert anchored == [2]  # the third time that dense was seen
    assert all(extra["drift"] == pytest.approx(0.2) for extra in run.recorder.extras)


class ScatteredPool(FakePool):
    """Ends its jobs in the order that suits least: the last submitted first; may lose a part of a rung."""

    broken = ()

    def next(self):
        self.queue.rotate(1)
        job = self.queue[0]
        if (job.start, job.stop) in self.broken:
            self.queue.popleft()
            return Outcome(job, None, 0.0, "RuntimeError: no")
        return super().next()


def test_workers_share_long_rungs_and_their_parts_make_the_same_evaluation(make, monkeypatch):
    whole, shared = make(trials=12), make(trials=12)
    shared.pool = shared.timer.pool = ScatteredPool(whole.pool.dense, workers=1)
    monkeypatch.setattr(run_module, "rung_jobs", lambda *args: rung_jobs(*args[:-1], workers=3))
    monkeypatch.setattr(parts, "_SHORTEST", 64)
    shared.run()
    monkeypatch.undo()
    whole.run()
    assert max(Counter(key for key, _ in shared.pool.seen).values()) > max(
        Counter(k for k, _ in whole.pool.seen).values()
    )
    assert max(shared.pool.seen.values()) == 1
    assert shared.recorder.evaluations == whole.recorder.evaluations
    told = [[(t.state, t.values) for t in run.study.get_trials()] for run in (whole, shared)]
    assert told[0] == told[1]


def test_a_part_that_fails_fails_its_policy_once(make, monkeypatch):
    run = make(trials=6)
    monkeypatch.setattr(run_module, "rung_jobs", lambda *args: rung_jobs(*args[:-1], workers=2))
    monkeypatch.setattr(parts, "_SHORTEST", 32)
    run.pool = run.timer.pool = ScatteredPool(run.pool.dense, workers=1)
    run.pool.broken = {(32, 64)}
    run.run()
    failed = run.study.get_trials(states=(TrialState.FAIL,))
    assert [t.user_attrs["why"] for t in failed] == ["RuntimeError: no"] * 6
    assert run.tried == 6
    assert not run._rungs
    assert not run.pool.pending
    assert not run.recorder.evaluations


def test_a_part_that_fails_after_its_neighbours_leaves_what_the_rung_before_it_found(make, monkeypatch):
    run = make(trials=6)
    monkeypatch.setattr(run_module, "rung_jobs", lambda *args: rung_jobs(*args[:-1], workers=2))
    monkeypatch.setattr(parts, "_SHORTEST", 64)
    run.pool = run.timer.pool = ScatteredPool(run.pool.dense, workers=1)
    run.pool.broken = {(64, 160)}  # the first part of the second rung, which comes last
    run.run()
    failed = run.study.get_trials(states=(TrialState.FAIL,))
    assert failed
    assert {t.user_attrs["why"] for t in failed} == {"RuntimeError: no"}
    assert {n for _, _, n, _ in run.recorder.evaluations} == {64}
    assert not run.pool.pending


@pytest.fixture
def slow_node(make):
    """A search whose node is slower than scoring, so that policies wait for it."""
    run = make(trials=16, workers=4)
    own, run.timer.measure, run.apart = run.timer.measure_together, run.timer.take, lambda: True

    def measure_together(policies):
        late = time.monotonic() + 5.0
        while len(run._to_time) < 3 and run.pool.pending and time.monotonic() < late:
            time.sleep(0.001)
        return own(policies)

    run.timer.measure_together = measure_together
    return run


def test_those_that_wait_for_a_node_are_timed_in_the_same_rounds(slow_node):
    slow_node.run()
    assert max(map(len, slow_node.timer.groups)) > 1
    assert len(set(slow_node.timer.timed)) == len(slow_node.timer.timed)
    assert sorted(digest for _, digest in slow_node.recorder.measurements) == sorted(slow_node.timer.timed)
    assert not [t for t in slow_node.study.trials if t.state is TrialState.RUNNING]


def test_all_that_were_timed_beside_a_worker_that_came_are_timed_again(slow_node):
    groups = slow_node.timer.groups
    slow_node.apart = lambda: max(map(len, groups), default=0) < 2
    slow_node.run()
    again = next(group for group in groups if len(group) > 1)
    counted = Counter(slow_node.timer.timed)
    assert {digest for digest, count in counted.items() if count == 2} == set(again)
    assert sorted(digest for _, digest in slow_node.recorder.measurements) == sorted(counted)
    assert not [t for t in slow_node.study.trials if t.state is TrialState.RUNNING]


def test_an_interrupted_search_takes_what_drifted(make, monkeypatch):
    interrupt = Interrupt()
    run = make(trials=12, workers=4, interrupt=interrupt)
    own = run.timer.take

    def take(policy):
        interrupt.requested = True
        return replace(own(policy), dense_ns=np.repeat([[50_000_000], [90_000_000]], 4, axis=0).repeat(4, axis=1))

    monkeypatch.setattr(run.timer, "take", take)
    run.run()
    (group,) = run.timer.groups
    assert sorted(digest for _, digest in run.recorder.measurements) == sorted(group)


def test_policies_whose_dense_drifted_are_timed_once_more(make, monkeypatch):
    run = make(trials=12, workers=4)
    own, seen = run.timer.take, Counter()

    def take(policy):
        seen[policy.digest()] += 1
        timing = own(policy)
        if len(seen) != 3 or seen[policy.digest()] > 1:
            return timing
        return replace(timing, dense_ns=np.repeat([[50_000_000], [90_000_000]], 4, axis=0).repeat(4, axis=1))

    monkeypatch.setattr(run.timer, "take", take)
    run.run()
    (again,) = [digest for digest, count in seen.items() if count > 1]
    first, second = [group for group in run.timer.groups if again in group]
    assert len(first) > 1
    assert second == [again]
    assert sorted(digest for _, digest in run.recorder.measurements) == sorted(seen)


def test_a_policy_that_breaks_the_timer_fails_alone(make, monkeypatch):
    run = make(trials=6)
    own, broken = run.timer.measure, []

    def measure(policy):
        if not broken:
            broken.append(policy.digest())
            raise RuntimeError("CUDA out of memory")
        return own(policy)

    monkeypatch.setattr(run.timer, "measure", measure)
    run.run()
    failed = run.study.get_trials(states=(TrialState.FAIL,))
    assert [t.user_attrs[DIGEST_ATTR] for t in failed] == broken
    assert failed[0].user_attrs["why"] == "cannot be timed: RuntimeError: CUDA out of memory"
    assert run.tried == 6


def test_a_machine_that_cannot_be_timed_ends_the_search(make, monkeypatch):
    run = make(trials=6)

    def measure(policy):
        raise MeasurementError("Others were timing.")

    monkeypatch.setattr(run.timer, "measure", measure)
    with pytest.raises(MeasurementError):
        run.run()

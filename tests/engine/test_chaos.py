"""Workers and nodes die at random under real searches: nothing that was finished is lost or there twice."""

import os
import random
import signal
import threading
import time
from collections import Counter
from types import SimpleNamespace

import numpy as np
import optuna
import psutil
import pytest
import torch
from optuna.samplers import RandomSampler
from optuna.trial import TrialState
from transformers import BertConfig, BertForSequenceClassification

from autoprune.config import SearchConfig
from autoprune.engine import parts
from autoprune.engine.checking import Extras
from autoprune.engine.drift import DenseWatch
from autoprune.engine.driver import search
from autoprune.engine.events import Observer
from autoprune.engine.interrupt import Interrupt
from autoprune.engine.landscape.guide import Guide
from autoprune.engine.projection import Projector
from autoprune.engine.proposals import Proposer, tell_values
from autoprune.engine.record import Recorder, unpack_logits
from autoprune.engine.run import Limits, SearchRun
from autoprune.engine.scoreboard import Scoreboard
from autoprune.evaluate.evaluator import Job
from autoprune.evaluate.pools.local import LocalPool
from autoprune.evaluate.pools.ray import RayPool
from autoprune.latency.cost_table import CostTable
from autoprune.latency.stats import LatencyStats
from autoprune.latency.timing import PairedTiming
from autoprune.policy import PruningPolicy
from autoprune.pruning.tables import TableSet
from autoprune.spaces.schema import load_space_file
from autoprune.spaces.space import Space
from autoprune.store.optuna_study import open_optuna_study
from autoprune.store.repository import Store
from autoprune.testing.studies import study_record

pytestmark = pytest.mark.ray


@pytest.fixture(autouse=True)
def shared_rungs(monkeypatch):
    """Let workers share even the short rungs of these tests."""
    monkeypatch.setattr(parts, "_SHORTEST", 24)


class Mischief(threading.Thread):
    """Does harm at random times until it is told to stop.

    Args:
        seed: Of times and choices.
        deeds: Functions of a random generator that return what they did, or None if there was nothing to do.
        pause: Shortest and longest time between deeds, in seconds.
        most: Deeds after which it stops by itself.
    """

    def __init__(self, seed, deeds, pause, most):
        super().__init__(daemon=True)
        self.rng, self.deeds, self.pause, self.most = random.Random(seed), deeds, pause, most
        self.over, self.done, self.failed = threading.Event(), [], []

    def run(self):
        while len(self.done) < self.most and not self.over.wait(self.rng.uniform(*self.pause)):
            try:
                did = self.rng.choice(self.deeds)(self.rng)
            except Exception as error:  # noqa: BLE001 - shown by the test, which a thread's error is not
                self.failed.append(error)
                return
            if did:
                self.done.append(did)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join(60)


def scoring_processes():
    """Return the worker processes of scoring actors that this test run has started, at work or not."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::Worker"):
                found.append(process)
        except psutil.Error:
            continue
    return found


def kill_a_worker(rng):
    alive = scoring_processes()
    if not alive:
        return None
    victim = rng.choice(sorted(alive, key=lambda process: process.pid))
    try:
        os.kill(victim.pid, signal.SIGKILL)
    except ProcessLookupError:
        return None
    return f"killed {victim.pid}"


class Arrivals(Observer):
    """Notes every outcome that the pool hands to the driver while policies are searched."""

    def __init__(self):
        self.name, self.outcomes = "", []

    def phase(self, name, total=None):
        self.name = name

    def note(self, outcome):
        if self.name == "search":
            self.outcomes.append(outcome)


@pytest.fixture
def arrivals(monkeypatch):
    seen, own = Arrivals(), RayPool.next

    def noted(pool):
        outcome = own(pool)
        seen.note(outcome)
        return outcome

    monkeypatch.setattr(RayPool, "next", noted)
    return seen


def check(config, result, arrivals):
    """Compare what arrived, what Optuna knows and what the store holds."""
    name = result.data["study"]
    with Store.open(config.db) as store:
        rows = store.evaluations(name)
    study = optuna.load_study(study_name=name, storage=f"sqlite:///{config.db}")
    check_rows(rows, study, arrivals)
    assert sum(result.data["trials"].values()) == config.trials
    return rows


def check_rows(rows, study, arrivals):
    kept = Counter((row.digest, row.n_examples) for row in rows)
    scored = [outcome for outcome in arrivals.outcomes if outcome.logits is not None]
    assert scored
    assert max(kept.values()) == 1, "an evaluation is there twice"
    failed = {t.user_attrs.get("policy_digest") for t in study.get_trials(states=(TrialState.FAIL,))}
    reached = {row.digest: row.n_examples for row in sorted(rows, key=lambda row: row.n_examples)}
    lost = [o.job for o in scored if o.job.key not in failed and o.job.stop > reached.get(o.job.key, 0)]
    assert not lost, "an evaluation was lost"
    ends = {n for _, n in kept}
    whole = {(o.job.key, o.job.stop) for o in scored if o.job.key not in failed and o.job.stop in ends}
    assert whole <= set(kept), "the evaluation of a rung was lost"
    assert max(Counter((o.job.key, o.job.start) for o in scored).values()) == 1, "a part came twice"
    assert not study.get_trials(states=(TrialState.RUNNING,))
    told = Counter(t.user_attrs["policy_digest"] for t in study.get_trials() if "policy_digest" in t.user_attrs)
    assert max(told.values()) == 1
    for row in rows:
        own = [o for o in scored if o.job.key == row.digest and o.job.stop <= row.n_examples]
        if own:
            logits = np.concatenate([o.logits for o in sorted(own, key=lambda o: o.job.start)])
            np.testing.assert_array_equal(unpack_logits(row.per_example), logits)


def rescore(config, rows):
    """Score what is stored once more in this process: the rows must hold what a calm search would have found."""
    from autoprune.engine.session import open_session
    from autoprune.engine.tables import open_tables

    session = open_session(config, Observer())
    with Store.open(config.db) as store:
        tables, _ = open_tables(session, store, Observer())
        longest = {row.digest: row for row in sorted(rows, key=lambda row: row.n_examples)}
        policies = {digest: PruningPolicy.from_dict(store.get_policy(digest)) for digest in longest}
    pool = LocalPool(session.task, tables)
    for digest, row in longest.items():
        pool.submit(Job(digest, policies[digest], 0, row.n_examples))
        again = pool.next()
        assert again.error is None
        np.testing.assert_allclose(unpack_logits(row.per_example), again.logits, atol=2e-4)


class Examples:
    """A tiny classifier and data that take a while to score; sent to real workers."""

    n = 160

    def __init__(self):
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=50,
            hidden_size=16,
            num_hidden_layers=6,
            num_attention_heads=2,
            intermediate_size=32,
            num_labels=3,
        )
        self.model = BertForSequenceClassification(config).eval()
        for parameter in self.model.parameters():
            torch.nn.init.normal_(parameter, 0.0, 0.3)
        self.tokenizer = SimpleNamespace(all_special_ids=[0, 1, 2], convert_ids_to_tokens=str)
        self.ids = torch.randint(3, 50, (self.n, 24))
        self.ids[:, 0], self.ids[:, -1] = 1, 2

    def batches(self, start, stop, batch_size):
        time.sleep(0.3)
        for first in range(start, min(stop, self.n), batch_size):
            rows = np.arange(first, min(first + batch_size, stop, self.n))
            yield rows, {"input_ids": self.ids[rows], "attention_mask": torch.ones(len(rows), 24, dtype=torch.long)}


class SteadyTimer:
    """Says that a policy takes its share of tokens; the machine is far too disturbed here to time anything."""

    def measure_together(self, policies):
        return [self.measure(policy) for policy in policies]

    def measure(self, policy):
        ratio = 0.1 + 0.9 * sum(policy.layer_counts(24, 6, 2)) / (24 * 6)
        dense = np.full((8, 4), 10_000_000)
        return PairedTiming(dense_ns=dense, policy_ns=(dense * ratio).astype(np.int64))

    def extras(self, policy):
        return Extras(None, 0.0)


@pytest.fixture
def run_of(tmp_path):
    """Put the real loop, pool and store together, as ``explore`` does, without probe, profile and verification."""
    path = tmp_path / "space.yaml"
    path.write_text(
        "version: 1\nname: chaos\ndescription: For this test.\ntrials: 10\n"
        "input: {scorers: [truncate, random]}\n"
        "stages: {scorers: [cls_attention, random], reduce: [drop], count: [0, 3], layers: [1, -1]}\n"
        "last_layer: [full, first_token]\nshare: [0.5, 1.0]\n"
    )

    def build(store, examples, pool, trials):
        local = LocalPool(examples, TableSet())
        local.submit(Job("dense", PruningPolicy(), 0, examples.n))
        dense = local.next().logits
        table = CostTable(tokens=(2, 24), layers_ms=((0.1, 1.6),) * 6, around_ms=(0.1, 0.4), first_token=())
        space = Space(load_space_file(str(path)), 6)
        projector = Projector(table, (24,), 2, "p50", {}, 10.0)
        store.create_study(study_record("chaos", 6.0))
        study = open_optuna_study(store, "chaos", RandomSampler(seed=0))
        study.enqueue_trial(space.dense_params())
        tell_values(study, study.ask(space.distributions()), 10.0, 1.0, 4.0)
        metric = SimpleNamespace(score=lambda own, truth: float(np.mean(own == truth)))
        return SearchRun(
            study=study,
            proposer=Proposer(study, Guide(space, projector, 6.0, 1.0)),
            pool=pool,
            timer=SteadyTimer(),
            scoreboard=Scoreboard(SimpleNamespace(labels=None, metric=metric), dense),
            recorder=Recorder(store, "chaos"),
            watch=DenseWatch.of(LatencyStats(10.0, 11.0, 11.0, 10.0, 0.1)),
            limits=Limits(trials, 0.6, "p50", {"p50": 10.0, "p95": 11.0, "mean": 10.0}),
            observer=Observer(),
            interrupt=Interrupt(),
        )

    return build


def test_no_evaluation_is_lost_or_doubled_when_workers_are_killed(run_of, arrivals, tmp_path):
    examples, trials = Examples(), 10
    arrivals.name = "search"
    with Store.open(tmp_path / "chaos.db") as store:
        pool = RayPool(examples, TableSet(), 2)
        run = run_of(store, examples, pool, trials)
        try:
            with Mischief(0, [kill_a_worker], (0.2, 2.0), most=4) as mischief:
                run.run()
        finally:
            pool.close()
        rows, study = store.evaluations("chaos"), run.study
        measured = Counter(row.digest for row in store.measurements("chaos"))
        policies = {row.digest: PruningPolicy.from_dict(store.get_policy(row.digest)) for row in rows}
    assert not mischief.failed
    assert len(mischief.done) >= 2, "hardly anybody was killed: the test says nothing"
    assert max(Counter(o.job.key for o in arrivals.outcomes if o.job.start >= 64).values()) > 1, "no rung was shared"
    check_rows(rows, study, arrivals)
    states = Counter(t.state for t in study.get_trials(deepcopy=False) if "policy_digest" in t.user_attrs)
    # Four deaths cannot take a candidate more than twice each and still fail more than one.
    assert states[TrialState.FAIL] <= 1
    assert sum(states.values()) == run.tried == trials
    assert set(measured.values()) == {1}
    assert sum(measured.values()) == states[TrialState.COMPLETE] > 0
    local = LocalPool(examples, TableSet())
    for row in rows:
        local.submit(Job(row.digest, policies[row.digest], 0, row.n_examples))
        np.testing.assert_allclose(unpack_logits(row.per_example), local.next().logits, atol=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_whole_search_survives_workers_that_are_killed(options, arrivals):
    config = SearchConfig.of(**{**options, "workers": 2, "trials": 4})
    with Mischief(3, [kill_a_worker], (0.5, 4.0), most=4) as mischief:
        result = search(config, arrivals)
    assert not mischief.failed
    assert mischief.done, "nobody was killed: the test says nothing"
    assert result.status in ("met", "not_met", "too_noisy")
    assert result.data["trials"]["failed"] == 0
    rescore(config, check(config, result, arrivals))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_search_survives_nodes_that_come_and_go(options, arrivals, seed):
    import ray
    from ray.cluster_utils import Cluster

    # Without its exit hooks, which set signal handlers, nodes can be added from a thread.
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0}, shutdown_at_exit=False)
    nodes = [cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=1)]
    cluster.wait_for_nodes()

    def lose_a_node(rng):
        if not nodes:
            return None
        node = nodes.pop(rng.randrange(len(nodes)))
        cluster.remove_node(node, allow_graceful=False)
        return "lost a node"

    def add_a_node(_):
        if len(nodes) > 1:
            return None
        nodes.append(cluster.add_node(num_cpus=1))
        return "added a node"

    deeds = [kill_a_worker, lose_a_node, add_a_node, add_a_node]
    config = SearchConfig.of(
        **{**options, "workers": 2, "trials": 6, "ray_address": cluster.address, "db": f"{options['db']}"}
    )
    keeper = threading.Event()
    try:
        with Mischief(seed, deeds, (1.0, 5.0), most=12) as mischief:
            # Mischief may end with no node at all; somebody who starts nodes is part of every cluster.
            rescue = threading.Thread(target=_rescue, args=(keeper, nodes, add_a_node), daemon=True)
            rescue.start()
            result = search(config, arrivals)
        assert not mischief.failed
        assert "lost a node" in mischief.done
        assert result.status in ("met", "not_met", "too_noisy")
        rescore(config, check(config, result, arrivals))
    finally:
        keeper.set()
        ray.shutdown()
        cluster.shutdown()


def _rescue(over, nodes, add):
    while not over.wait(15):
        if not nodes:
            add(None)

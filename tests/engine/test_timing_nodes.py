"""Timing on nodes with the resource autoprune_timer: one cluster of three raylets on this machine."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from autoprune.config import SearchConfig
from autoprune.engine import assembly, timing_nodes
from autoprune.engine.beside import Beside
from autoprune.engine.driver import search
from autoprune.engine.events import Observer
from autoprune.engine.places import LocalPlace, PlacedTimer, open_place
from autoprune.engine.session import open_session
from autoprune.errors import ConfigError, MeasurementError
from autoprune.evaluate.pools.ray import TIMER_RESOURCE, RayPool, scoring_nodes, timer_nodes
from autoprune.latency.exclusive import kernel_boot_id
from autoprune.latency.hardware import fingerprint
from autoprune.latency.meter import MeterSettings
from autoprune.policy import PruningPolicy, Stage
from autoprune.pruning.tables import TableSet
from autoprune.store.repository import Store

HALF = PruningPolicy((Stage("input", "truncate", keep=0.5),))
QUARTER = PruningPolicy((Stage(1, "cls_attention", keep=0.25),))
QUICK = MeterSettings(min_rounds=3, max_rounds=3, max_seconds=5.0)


class Listener(Observer):
    def __init__(self):
        self.said = []

    def message(self, text):
        self.said.append(text)


def test_nodes_of_two_kinds_are_refused_by_name():
    here = fingerprint()
    assert timing_nodes.one_kind({"a": here, "b": here}) is here
    other = replace(here, cpu="Another CPU")
    with pytest.raises(ConfigError) as caught:
        timing_nodes.one_kind({"node-a": here, "node-b": other})
    assert "node-a" in caught.value.message
    assert "node-b is Another CPU" in caught.value.message
    assert TIMER_RESOURCE in caught.value.hint


def test_without_a_cluster_timing_is_here():
    with open_place(SearchConfig.of(), Observer()) as place:
        assert type(place) is LocalPlace
        assert place.hardware is fingerprint()


@pytest.fixture(scope="module")
def cluster():
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    cluster.add_node(num_cpus=2, resources={TIMER_RESOURCE: 1}, node_name="timer-node")
    cluster.add_node(num_cpus=2, node_name="scoring-node")
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


@pytest.fixture
def node_options(options, cluster):
    return {**options, "ray_address": cluster.address, "workers": 2, "trials": 1}


@pytest.mark.ray
def test_timing_runs_on_the_timing_node_and_scoring_beside_it(node_options):
    import ray

    seen = Listener()
    config = SearchConfig.of(**node_options)
    with open_place(config, seen) as place:
        session = open_session(config, seen, place)
        assert any("timer-node" in text for text in seen.said)
        assert session.hardware.digest() == fingerprint().digest()
        pid, node = place.where()
        assert pid != os.getpid()
        assert timer_nodes() == {node: "timer-node"}
        timer = session.timer(say=seen.message)
        timings = PlacedTimer(place, timer, QUICK).measure_together([HALF, QUARTER])
        assert [timing.n_inputs for timing in timings] == [len(session.inputs)] * 2
        with pytest.raises(MeasurementError, match="as told"):
            place.run(timer, refuse)
        assert "from afar" in seen.said

        pool = RayPool(session.task, TableSet(), 2)
        try:
            where = pool.nodes()
        finally:
            pool.close()
        assert set(where) == set(scoring_nodes())
        assert node not in where

        (check,) = place.run(timer, timing_nodes.check_all, [HALF], None, QUICK)
        assert check.flops_ratio < 1
        assert check.tokenise_ms > 0
        assert place.verify(session.task.spec, timer, [], None) == []
        assert place.where()[0] != pid, "verification needs a fresh process"
        assert place.where()[1] == node
        assert place.host == kernel_boot_id()

        with ThreadPoolExecutor(1) as thread:
            lost = thread.submit(place.run, timer, sleep)
            time.sleep(1.0)
            place.close()
            assert lost.done(), "who waits for the node must hear of its end before Ray is shut down"
            with pytest.raises(MeasurementError, match="died"):
                lost.result()
    assert not ray.is_initialized()


def sleep(timer):
    time.sleep(60.0)


def refuse(timer):
    timer.say("from afar")
    raise MeasurementError("as told")


@pytest.mark.ray
def test_a_cluster_without_timing_nodes_says_so(node_options, monkeypatch):
    from autoprune.evaluate.pools import ray as room

    monkeypatch.setattr(room, "TIMER_RESOURCE", "no_such_resource")
    seen = Listener()
    with open_place(SearchConfig.of(**node_options), seen) as place:
        assert type(place) is LocalPlace
        assert scoring_nodes() == []
    assert any("timing     on this host" in text for text in seen.said)


@pytest.mark.ray
@pytest.mark.slow
def test_a_search_with_a_timing_node(node_options):
    result = search(SearchConfig.of(**node_options), Listener())
    assert result.status in ("met", "not_met", "too_noisy")
    assert sum(result.data["trials"].values()) == 1
    with Store.open(node_options["db"]) as store:
        assert store.cost_table_row(
            result.data["hardware"]["digest"],
            store.get_study(result.data["study"]).model["digest"],
            result.data["workload"]["digest"],
        )


@pytest.mark.ray
@pytest.mark.slow
def test_a_timing_node_on_another_machine_times_beside_scoring(node_options, monkeypatch):
    # All nodes of this cluster are on this machine, so the two that must differ are told that they do.
    monkeypatch.setattr(assembly, "kernel_boot_id", lambda: "the driver's")
    monkeypatch.setattr(RayPool, "apart", lambda pool, host: host == kernel_boot_id())
    began, start = [], Beside.start
    monkeypatch.setattr(Beside, "start", lambda beside, *call: (began.append(call[0]), start(beside, *call))[1])
    result = search(SearchConfig.of(**{**node_options, "trials": 4}), Listener())
    assert result.status in ("met", "not_met", "too_noisy")
    assert sum(result.data["trials"].values()) == 4
    assert sum(map(len, began)) == result.data["trials"]["complete"] >= 1

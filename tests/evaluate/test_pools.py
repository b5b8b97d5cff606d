"""The real pools on a real model: same logits everywhere, dead workers survived."""

import os
import signal

import numpy as np
import pytest
import torch

from autoprune.errors import ConfigError
from autoprune.evaluate.evaluator import Job
from autoprune.evaluate.pool import check_gpus, fitting_workers, gpu_places, open_pool
from autoprune.evaluate.pools.local import LocalPool
from autoprune.evaluate.pools.ray import _fits, on_cpu
from autoprune.evaluate.pools.replay import ReplayPool
from autoprune.policy import PruningPolicy, Stage
from autoprune.pruning.tables import TableSet
from autoprune.testing.pools import run_pool

N = 40
POLICIES = [PruningPolicy(), PruningPolicy((Stage(1, "cls_attention", keep=0.5),))]
ALIKE = [*POLICIES, *(PruningPolicy((Stage(2, "cls_attention", keep=keep),)) for keep in (0.6, 0.3))]
MISFIT = PruningPolicy((Stage(99, "cls_attention", keep=0.5),))


def test_the_local_pool_passes_the_suite(examples):
    run_pool(LocalPool(examples, TableSet()), ALIKE, MISFIT, N)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_replay_pool_passes_the_suite(workers):
    logits = {policy.digest(): np.full((N, 3), i, dtype=np.float32) for i, policy in enumerate(ALIKE)}
    run_pool(ReplayPool(logits, workers), ALIKE, MISFIT, N)


@pytest.mark.ray
def test_the_ray_pool_passes_the_suite(examples):
    run_pool(open_pool(examples, TableSet(), 2, None), ALIKE, MISFIT, N)


def drain(pool):
    outcomes = []
    while pool.pending:
        outcomes.append(pool.next())
    return {(o.job.key, o.job.start): o for o in outcomes}


def submit_all(pool):
    for number, policy in enumerate(POLICIES):
        for start in range(0, N, 16):
            pool.submit(Job(str(number), policy, start, min(N, start + 16)))


def test_local_pool_returns_examples_in_order(examples):
    pool = LocalPool(examples, TableSet())
    submit_all(pool)
    found = drain(pool)
    with torch.inference_mode():
        expected = examples.model(input_ids=examples.ids).logits.numpy()
    got = np.concatenate([found["0", start].logits for start in range(0, N, 16)])
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert not np.allclose(found["1", 0].logits, found["0", 0].logits)


def test_a_failing_candidate_is_an_outcome(examples):
    pool = LocalPool(examples, TableSet())
    pool.submit(Job("bad", MISFIT, 0, 16))
    outcome = pool.next()
    assert outcome.logits is None
    assert "PolicyError" in outcome.error


def test_one_worker_needs_no_ray(examples):
    assert type(open_pool(examples, TableSet(), 1, None)) is LocalPool
    assert fitting_workers(10**15) == 1


@pytest.mark.parametrize("gpus", [-1.0, 1.5])
def test_a_senseless_number_of_gpus_is_refused(examples, gpus):
    with pytest.raises(ConfigError, match="GPUs per worker"):
        open_pool(examples, TableSet(), 2, None, gpus)


@pytest.mark.parametrize(
    ("resources", "gpus", "fits"),
    [
        ({"CPU": 4.0, "memory": 100.0}, 0.0, 4),
        ({"CPU": 4.0, "memory": 25.0}, 0.0, 2),
        ({"CPU": 4.0}, 0.0, 4),
        ({"CPU": 8.0, "GPU": 2.0}, 0.6, 2),
        ({"CPU": 8.0, "GPU": 2.0}, 0.25, 8),
        ({"CPU": 8.0, "GPU": 3.0}, 2.0, 1),
        ({"CPU": 8.0}, 0.5, 0),
    ],
)
def test_a_node_holds_what_cores_memory_and_gpus_allow(resources, gpus, fits):
    assert _fits(resources, gpus, 10) == fits


@pytest.mark.parametrize(
    ("found", "gpus", "places"), [(0, 0.5, 0), (1, 0.25, 4), (1, 1.0, 1), (2, 0.6, 2), (3, 2.0, 1), (1, 2.0, 0)]
)
def test_a_share_does_not_span_gpus(found, gpus, places):
    assert gpu_places(found, gpus) == places


@pytest.mark.parametrize(
    ("found", "workers", "gpus", "refused"),
    [
        (0, "auto", 0.0, False),
        (0, 8, 0.0, False),
        (0, "auto", 0.5, True),
        (1, "auto", 0.5, False),
        (1, 2, 0.5, False),
        (1, 3, 0.5, True),
        (1, "auto", 2.0, True),
        (4, 2, 2.0, False),
    ],
)
def test_more_gpus_than_the_machine_has_are_refused_in_words(monkeypatch, found, workers, gpus, refused):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: found)
    if not refused:
        check_gpus(workers, gpus)
        return
    with pytest.raises(ConfigError, match=rf"--gpus-per-worker {gpus:g}: .* finds {found} CUDA") as caught:
        check_gpus(workers, gpus)
    assert "--ray-address" in caught.value.hint


def test_a_model_on_the_cpu_travels_as_it_is(examples):
    assert on_cpu(examples) is examples


def test_a_model_on_a_gpu_travels_by_way_of_the_cpu(examples):
    class OnGpu(torch.nn.Module):
        """Stands in for a model on a device that this machine need not have."""

        place = torch.device("cuda", 1)

        def parameters(self, recurse=True):
            return iter([type("Parameter", (), {"device": self.place})])

        def to(self, device):
            self.place = torch.device(device)
            return self

    examples.model = OnGpu()
    sent = on_cpu(examples)
    assert sent.model.place.type == "cpu"
    assert examples.model.place.type == "cuda"
    assert sent.ids is examples.ids
    assert sent.tokenizer is examples.tokenizer


@pytest.mark.ray
def test_ray_pool_agrees_with_local_and_survives_a_killed_worker(examples):
    import ray

    local = LocalPool(examples, TableSet())
    submit_all(local)
    expected = drain(local)
    pool = open_pool(examples, TableSet(), 2, None)
    try:
        assert pool.workers == 2
        victim = pool.pids()[0]
        submit_all(pool)
        os.kill(victim, signal.SIGKILL)
        found = drain(pool)
    finally:
        pool.close()
    assert not ray.is_initialized()
    assert set(found) == set(expected)
    for key, outcome in found.items():
        assert outcome.error is None
        np.testing.assert_allclose(outcome.logits, expected[key].logits, atol=1e-5)

"""The real pools on a real model: same logits everywhere, dead workers survived."""

import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from autoprune.evaluate.evaluator import Job
from autoprune.evaluate.pool import fitting_workers, open_pool
from autoprune.evaluate.pools.local import LocalPool
from autoprune.policy import PruningPolicy, Stage
from autoprune.pruning.tables import TableSet

N = 40
POLICIES = [PruningPolicy(), PruningPolicy((Stage(1, "cls_attention", keep=0.5),))]


class Examples:
    """What the evaluator needs of a task, small enough to send anywhere."""

    def __init__(self):
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=50,
            hidden_size=16,
            num_hidden_layers=3,
            num_attention_heads=2,
            intermediate_size=32,
            num_labels=3,
        )
        self.model = BertForSequenceClassification(config).eval()
        self.tokenizer = SimpleNamespace(all_special_ids=[0, 1, 2], convert_ids_to_tokens=str)
        self.ids = torch.randint(3, 50, (N, 12))
        self.ids[:, 0], self.ids[:, -1] = 1, 2

    def batches(self, start, stop, batch_size):
        order = list(range(start, min(stop, N)))[::-1]
        for first in range(0, len(order), batch_size):
            rows = np.array(order[first : first + batch_size])
            yield rows, {"input_ids": self.ids[rows], "attention_mask": torch.ones(len(rows), 12, dtype=torch.long)}


def drain(pool):
    outcomes = []
    while pool.pending:
        outcomes.append(pool.next())
    return {(o.job.key, o.job.start): o for o in outcomes}


def submit_all(pool):
    for number, policy in enumerate(POLICIES):
        for start in range(0, N, 16):
            pool.submit(Job(str(number), policy, start, min(N, start + 16)))


def test_local_pool_returns_examples_in_order():
    examples = Examples()
    pool = LocalPool(examples, TableSet())
    submit_all(pool)
    found = drain(pool)
    with torch.inference_mode():
        expected = examples.model(input_ids=examples.ids).logits.numpy()
    got = np.concatenate([found["0", start].logits for start in range(0, N, 16)])
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert not np.allclose(found["1", 0].logits, found["0", 0].logits)


def test_a_failing_candidate_is_an_outcome():
    pool = LocalPool(Examples(), TableSet())
    pool.submit(Job("bad", PruningPolicy((Stage(99, "cls_attention", keep=0.5),)), 0, 16))
    outcome = pool.next()
    assert outcome.logits is None
    assert "PolicyError" in outcome.error


def test_one_worker_needs_no_ray():
    assert type(open_pool(Examples(), TableSet(), 1, None)) is LocalPool
    assert fitting_workers(10**15) == 1


@pytest.mark.ray
def test_ray_pool_agrees_with_local_and_survives_a_killed_worker():
    import ray

    examples = Examples()
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

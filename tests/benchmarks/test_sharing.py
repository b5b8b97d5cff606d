"""Sharing layers among policies changes no bit of what the evaluator finds."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lattice import Lattice
from sharing import SharedScoring, prefix, sharing_order
from transformers import BertConfig, BertForSequenceClassification

from autoprune.evaluate.evaluator import BATCH_SIZE, Evaluator, Job
from autoprune.policy import PruningPolicy
from autoprune.pruning.tables import TableSet

N, TOKENS = 20, 24


class Texts:
    """Rows of two lengths, so that some batches are padded."""

    def __init__(self):
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=60,
            hidden_size=24,
            num_hidden_layers=6,
            num_attention_heads=2,
            intermediate_size=32,
            num_labels=3,
        )
        self.model = BertForSequenceClassification(config).eval()
        self.tokenizer = SimpleNamespace(all_special_ids=[0, 1, 2], convert_ids_to_tokens=str)
        self.ids = torch.randint(3, 60, (N, TOKENS))
        self.ids[:, 0] = 1
        self.mask = torch.ones(N, TOKENS, dtype=torch.long)
        self.mask[::3, 15:] = 0

    def batches(self, start, stop, batch_size):
        order = list(range(start, min(stop, N)))[::-1]
        for first in range(0, len(order), batch_size):
            rows = np.array(order[first : first + batch_size])
            yield rows, {"input_ids": self.ids[rows], "attention_mask": self.mask[rows]}


@pytest.fixture(scope="module")
def setting():
    texts, tables = Texts(), TableSet()
    generator = torch.Generator().manual_seed(1)
    key = tables.add({"importance": torch.rand(60, generator=generator)})
    return texts, tables, Lattice.read({"lexicon": key})


def test_shared_layers_give_the_very_same_logits(setting):
    texts, tables, lattice = setting
    policies = [PruningPolicy(), *lattice.policies[::37]]
    found = SharedScoring(texts, tables).logits(sharing_order(policies, 6), N)
    plain = Evaluator(texts, tables)
    for policy in policies:
        expected = plain.logits(Job(policy.digest(), policy, 0, N))
        np.testing.assert_array_equal(found[policy.digest()], expected)


def test_layers_do_run_less_often(setting):
    texts, tables, lattice = setting
    policies = sharing_order(lattice.policies[:60], 6)
    scoring, runs = SharedScoring(texts, tables), []
    for layer in scoring._evaluator._model.base_model.encoder.layer:
        layer.intermediate.register_forward_hook(lambda *a: runs.append(1))
    scoring.logits(policies, BATCH_SIZE)
    distinct = sum(len({prefix(policy, layer) for policy in policies}) for layer in range(5)) + len(policies)
    assert len(runs) == distinct < 6 * len(policies) / 2

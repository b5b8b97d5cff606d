"""A task that is small enough to send anywhere, for all pools."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

N = 40


class Examples:
    """What the evaluator needs of a task."""

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


@pytest.fixture
def examples():
    return Examples()

"""A tiny BERT and inputs for it, shared by the tests of the latency room."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

SPECIAL = {"pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2}


def build_bert(layers: int = 3, hidden: int = 32, attention: str = "sdpa") -> Any:
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=2 * hidden,
        vocab_size=100,
        max_position_embeddings=128,
        attn_implementation=attention,
        **SPECIAL,
    )
    return BertForSequenceClassification(config).eval()


def build_batch(tokens: int, rows: int = 1, seed: int = 0) -> dict[str, Any]:
    ids = torch.randint(5, 100, (rows, tokens), generator=torch.Generator().manual_seed(seed))
    ids[:, 0], ids[:, -1] = 1, 2
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@pytest.fixture
def bert() -> Any:
    return build_bert()


@pytest.fixture
def make_bert() -> Any:
    return build_bert


@pytest.fixture
def make_batch() -> Any:
    return build_batch

"""A tiny BERT classifier with a tokenizer, and a policy with a table for it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

from autoprune.policy import PruningPolicy, Stage
from autoprune.pruning.tables import TableSet

WORDS = "the a cat dog sat ran on under mat tree and then it was very good bad fine happy sad"


@dataclass
class Tiny:
    """A model with everything that an export needs."""

    model: BertForSequenceClassification
    tokenizer: Any
    tables: TableSet
    policy: PruningPolicy


@pytest.fixture
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    folder = tmp_path_factory.mktemp("vocab")
    vocab = folder / "vocab.txt"
    vocab.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split()]))
    tokenizer = BertTokenizerFast(str(vocab), model_max_length=64)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=5 + len(WORDS.split()),
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        id2label={0: "calm", 1: "lively", 2: "odd"},
        label2id={"calm": 0, "lively": 1, "odd": 2},
    )
    model = BertForSequenceClassification(config).eval()
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, 1.0 if "LayerNorm.weight" in name else 0.0, 0.3)
    tables = TableSet()
    key = tables.add({"importance": torch.rand(config.vocab_size)})
    tables.add({"importance": torch.rand(config.vocab_size)})  # one that the policy does not need
    policy = PruningPolicy(
        (
            Stage("input", "lexicon", keep=0.7, params={"table": key}),
            Stage(1, "cls_attention", keep=0.5, reduce="fuse"),
        ),
        last_layer="first_token",
    )
    return Tiny(model, tokenizer, tables, policy)


@pytest.fixture
def exported(tiny: Tiny, tmp_path: Path) -> Path:
    from autoprune.deploy.save import save_pruned

    return save_pruned(
        tiny.model,
        tiny.tokenizer,
        tiny.policy,
        tmp_path / "pruned",
        tables=tiny.tables,
        figures={"ratio": 0.4, "drop": 0.01},
        workload={"batch_size": 1},
        hardware={"cpu": "test"},
        versions={"autoprune": "0.1.0"},
        study={"name": "s", "trial": 3},
    )

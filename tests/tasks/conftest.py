"""A tiny classifier with its tokenizer, and small data files, saved as a user would have them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

WORDS = [f"w{i}" for i in range(60)] + ["good", "bad", "fine", "film"]
Row = dict[str, object]


def save_classifier(folder: Path, id2label: dict[int, str], **config: object) -> Path:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    torch.manual_seed(0)
    settings = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=48,
        id2label=id2label,
        label2id={name: i for i, name in id2label.items()},
        **config,
    )
    BertForSequenceClassification(settings).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_classifier(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_classifier(tmp_path_factory.mktemp("models") / "tiny-bert", {0: "negative", 1: "positive"}))


@pytest.fixture
def make_classifier(tmp_path: Path) -> Callable[..., Path]:
    return lambda id2label, **config: save_classifier(tmp_path / "made", id2label, **config)


@pytest.fixture
def make_rows() -> Callable[..., list[Row]]:
    def make(n: int, labels: tuple[object, ...] = ("negative", "positive")) -> list[Row]:
        return [
            {
                "text": " ".join([f"w{i % 60}", "film"] * (1 + i * 7 % 20)) + f" w{i // 60} {i}",
                "label": labels[i % len(labels)],
            }
            for i in range(n)
        ]

    return make


@pytest.fixture
def jsonl(tmp_path: Path) -> Callable[..., str]:
    def write(rows: list[Row], name: str = "reviews.jsonl") -> str:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return write

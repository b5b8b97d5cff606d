"""A small classifier that is slow enough to be worth pruning, with a data set, as a user would have them."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# What these tests ask is not how exactly a latency is known: on a disturbed machine that took most of their time.
SEARCH_S, VERIFY_S = 2.0, 4.0
WORDS = [f"word{i}" for i in range(200)]


@pytest.fixture(scope="package", autouse=True)
def haste() -> Iterator[None]:
    """Time searches in this process for some seconds at most."""
    from autoprune.engine import assembly, benching, verify

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assembly, "SEARCH_SETTINGS", assembly.SEARCH_SETTINGS.with_(max_seconds=SEARCH_S))
        for module in (verify, benching):
            patch.setattr(module, "VERIFY_SETTINGS", module.VERIFY_SETTINGS.with_(max_seconds=VERIFY_S))
        yield


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("models") / "small-bert"
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=1024,
        max_position_embeddings=130,
        id2label={0: "even", 1: "odd"},
        label2id={"even": 0, "odd": 1},
    )
    model = BertForSequenceClassification(config).eval()
    for name, parameter in model.named_parameters():
        if "LayerNorm.weight" not in name:
            torch.nn.init.normal_(parameter, 0.0, 0.057)
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=128,
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "texts.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for row in range(300):
            words = [WORDS[(row * 31 + k * k * 7) % 200] for k in range(30 + row % 120)]
            writer.writerow([" ".join(words), ("even", "odd")[row % 2]])
    return path


@pytest.fixture
def options(small_model: Path, small_data: Path, tmp_path: Path) -> dict[str, object]:
    return {
        "model": str(small_model),
        "dataset": str(small_data),
        "budget": "80%",
        "trials": 3,
        "workers": 1,
        "threads": 1,
        "db": str(tmp_path / "studies.db"),
    }


@pytest.fixture
def run_search(options: dict[str, object]) -> Callable[..., subprocess.Popen[str]]:
    """Start a search in a process of its own, as the command line does."""

    def start(**more: object) -> subprocess.Popen[str]:
        code = (
            "import json, sys, autoprune\n"
            "from autoprune.engine import assembly, verify\n"
            f"assembly.SEARCH_SETTINGS = assembly.SEARCH_SETTINGS.with_(max_seconds={SEARCH_S})\n"
            f"verify.VERIFY_SETTINGS = verify.VERIFY_SETTINGS.with_(max_seconds={VERIFY_S})\n"
            "result = autoprune.search(**json.loads(sys.argv[1]))\n"
            "print(json.dumps(result.to_json()))\n"
        )
        return subprocess.Popen(
            [sys.executable, "-c", code, json.dumps({**options, **more})],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ,
        )

    return start

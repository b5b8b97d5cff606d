"""The quickstart's real model as a recipe for the behaviour suite: real weights, real text."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from typing import Any, cast

import torch
from transformers import AutoTokenizer, PreTrainedModel

from autoprune.tasks.quickstart.adapter import AdapterCard, load_model, read_adapter
from autoprune.tasks.quickstart.checkpoint import checkpoint_dir
from autoprune.testing.tiny import Inputs, Tiny

LENGTHS = (60, 37, 9)
_TEXTS = (
    "Return the eigenvalues of a square matrix in ascending order, each repeated according to its multiplicity. The "
    "matrix must be symmetric or Hermitian; only its lower triangle is read, and what stands above the diagonal is "
    "ignored. A matrix that is not square raises an error that names its shape.",
    "Open a session with the server and keep it alive until it is closed. Requests that fail because the connection "
    "broke are sent again up to three times, unless they might have changed something on the other side.",
    "Parse a date in ISO format.",
)


@functools.cache
def _loaded() -> PreTrainedModel:
    card = AdapterCard.read()
    return load_model(checkpoint_dir(), read_adapter(card), card.classes)


@functools.cache
def _tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(checkpoint_dir())


def quickstart() -> Tiny:
    """Return MiniLM with the quickstart's adapter, as a search loads it.

    Raises:
        AssetError: A file is missing or damaged.
    """
    tokenizer = _tokenizer()
    return Tiny(
        family="BERT",
        base="BertModel",
        head="BertForSequenceClassification",
        config=lambda: copy.deepcopy(_loaded().config),
        kind="text",
        vocabulary=int(_loaded().config.vocab_size),
        specials=frozenset(tokenizer.all_special_ids) - {tokenizer.unk_token_id},
        n_layers=int(_loaded().config.num_hidden_layers),
        lengths=LENGTHS,
        ready=_ready,
        batch=_batch,
    )


def _ready(head: bool) -> PreTrainedModel:
    model = copy.deepcopy(_loaded())
    return model if head else cast("PreTrainedModel", model.base_model)


def _batch(lengths: Sequence[int]) -> Inputs:
    """Return real sentences cut to the lengths, padded to the longest; there are as many lengths as texts."""
    tokenizer = _tokenizer()
    rows = [
        tokenizer(text, truncation=True, max_length=length)["input_ids"]
        for text, length in zip(_TEXTS, lengths, strict=True)
    ]
    if [len(row) for row in rows] != list(lengths):
        raise ValueError(f"The texts have {[len(row) for row in rows]} tokens, which is less than {list(lengths)}.")
    padded = tokenizer.pad({"input_ids": rows}, return_tensors="pt")
    return {name: torch.as_tensor(padded[name]) for name in ("input_ids", "attention_mask")}

"""``explain``: which tokens of a text leave at which stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from autoprune.deploy.load import load_dense, policy_tables
from autoprune.deploy.policy_file import read_policy_file
from autoprune.errors import InputError
from autoprune.pruning.attach import attach
from autoprune.pruning.limits import max_length


def explain(directory: str | Path, text: str) -> dict[str, Any]:
    """Run one text through an export and say which tokens went at which stage.

    Args:
        directory: The exported folder.
        text: The text.

    Returns:
        ``{"policy", "tokens": [str], "stages": [{"layer", "stage", "kept": [int], "left": [int], "tokens"}],
        "layer_lengths": [int], "label", "dense_label"}``; positions index ``tokens``.

    Raises:
        ModelError: The folder is no export, or cannot be loaded.
        InputError: The text is empty.
    """
    if not text.strip():
        raise InputError("There is no text to explain.", 'Give one with --text "...".')
    policy = read_policy_file(directory).policy
    model, tokenizer = load_dense(directory)
    encoded = tokenizer(text, return_tensors="pt", truncation=True, max_length=max_length(model, tokenizer))
    with torch.inference_mode():
        dense_label = _label(model, model(**encoded).logits)
        tables = policy_tables(policy, Path(directory))
        with attach(model, policy, tokenizer=tokenizer, tables=tables) as handle, handle.record() as trace:
            label = _label(model, model(**encoded).logits)
    stages = [
        {
            "layer": policy.stages[step.stage].layer,
            "stage": policy.stages[step.stage].describe(),
            "kept": list(step.kept[0]),
            "left": sorted(set(step.before[0]) - set(step.kept[0])),
            "tokens": step.tokens[0],
        }
        for step in trace.stages
    ]
    return {
        "policy": policy.to_dict(),
        "tokens": tokenizer.convert_ids_to_tokens(encoded["input_ids"][0].tolist()),
        "stages": stages,
        "layer_lengths": list(trace.layer_lengths),
        "label": label,
        "dense_label": dense_label,
    }


def _label(model: Any, logits: torch.Tensor) -> str:
    """Return the name of the class with the highest logit; logits (1, classes)."""
    index = int(logits[0].argmax())
    return str((model.config.id2label or {}).get(index, index))

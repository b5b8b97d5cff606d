"""Tokens that never leave: special tokens, a prefix, a pattern, and masks given by the caller."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedModel

from autoprune.errors import DataError, PolicyError
from autoprune.policy import PruningPolicy
from autoprune.pruning.families import family_of

DIGITS = r"\d"
CAPITALISED = r"^(?:##|Ġ|▁)?[A-Z]"
_SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id", "cls_token_id", "sep_token_id", "mask_token_id")
_GIVEN: ContextVar[Tensor | None] = ContextVar("autoprune_protect", default=None)


def find_tokenizer(model: PreTrainedModel) -> Any | None:
    """Return the tokenizer in the model's own local folder, or None."""
    folder = Path(str(getattr(model, "name_or_path", "") or "/nowhere"))
    if not (folder / "tokenizer_config.json").is_file() and not (folder / "tokenizer.json").is_file():
        return None
    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError):
        return None  # a folder without a readable tokenizer: the configuration's ids are used


def special_ids(model: PreTrainedModel, tokenizer: Any | None) -> set[int]:
    """Return the ids of special tokens; ``[UNK]`` is not one of them, since it stands for text."""
    if tokenizer is not None:
        return {int(i) for i in tokenizer.all_special_ids} - {getattr(tokenizer, "unk_token_id", None)}
    found: set[int] = set()
    for name in _SPECIAL:
        value = getattr(model.config, name, None)
        found |= {int(i) for i in (value if isinstance(value, list | tuple) else [value]) if i is not None}
    if not found - {getattr(model.config, "pad_token_id", None)}:
        warnings.warn(
            "autoprune knows no special tokens of this model, so only the prefix is protected: "
            "pass tokenizer= to attach.",
            stacklevel=4,
        )
    return found


def vocabulary_size(model: PreTrainedModel) -> int:
    """Return the number of rows of the token embedding."""
    embedding: Any = model.get_input_embeddings()
    return int(embedding.num_embeddings)


def protected_ids(model: PreTrainedModel, policy: PruningPolicy, tokenizer: Any | None) -> Tensor | None:
    """Return (V,) bool, the ids that never leave, or None when the policy protects none by id.

    Raises:
        PolicyError: The policy has a pattern and there is no tokenizer to apply it to.
    """
    protect = policy.protect
    size = vocabulary_size(model)
    table = torch.zeros(size, dtype=torch.bool)
    if protect.special_tokens:
        ids = [i for i in special_ids(model, tokenizer) if 0 <= i < size]
        if model.config.model_type == "clip_text_model":
            ids.append(size - 1)  # old configurations name the wrong end token; pooling takes the highest id
        table[torch.tensor(ids, dtype=torch.long)] = True
    if protect.pattern is not None:
        if tokenizer is None:
            raise PolicyError("protect.pattern needs the tokenizer.", "Pass tokenizer= to attach.")
        wanted = re.compile(protect.pattern)
        for token, i in tokenizer.get_vocab().items():
            if i < size and wanted.search(token):
                table[i] = True
    return table if bool(table.any()) else None


def protected_count(model: PreTrainedModel, policy: PruningPolicy, tokenizer: Any | None, ids: Tensor) -> int:
    """Return how many tokens of one input never leave, as the model with the policy attached would count them.

    Args:
        model: The model.
        policy: The policy; its stages play no part.
        tokenizer: See ``attach``.
        ids: (n,) int64, without padding.

    Raises:
        PolicyError: The policy has a pattern and there is no tokenizer to apply it to.
    """
    family = family_of(model)
    table = protected_ids(model, policy, tokenizer or find_tokenizer(model))
    held = torch.zeros(ids.shape, dtype=torch.bool) if table is None else table[ids.cpu()]
    held[: max(policy.protect.prefix, family.prefix)] = True
    if family.cached:
        held[-1] = True
    return int(held.sum())


@contextmanager
def protecting(mask: Tensor) -> Iterator[None]:
    """Protect tokens of the forwards inside the ``with`` block in this thread, example by example.

    Args:
        mask: (B, N) bool, true at tokens that must stay (entities, parts of speech), in the layout of the input.

    Raises:
        DataError: The mask is not two-dimensional.
    """
    if mask.dim() != 2:
        raise DataError(f"A protection mask must have the shape (batch, tokens), not {tuple(mask.shape)}.")
    token = _GIVEN.set(mask.bool())
    try:
        yield
    finally:
        _GIVEN.reset(token)


def given_mask() -> Tensor | None:
    """Return the caller's mask of this thread, or None."""
    return None if torch.compiler.is_compiling() else _GIVEN.get()

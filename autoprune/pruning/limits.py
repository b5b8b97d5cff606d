"""How long a text a model takes."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedModel

_NO_LIMIT = 1_000_000  # tokenizers without a limit say 1e30
_FALLBACK = 512


def max_length(model: PreTrainedModel, tokenizer: Any) -> int:
    """Return the tokens that both model and tokenizer take.

    RoBERTa's position table starts after its padding index, so two of its 514 rows are no positions.
    """
    limits = [tokenizer.model_max_length]
    for module_name, module in model.named_modules():
        if module_name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            skipped = 0 if module.padding_idx is None else module.padding_idx + 1
            limits.append(module.num_embeddings - skipped)
    if len(limits) == 1:
        limits.append(getattr(model.config, "max_position_embeddings", None) or limits[0])
    limit = min(limits)
    return int(limit) if limit < _NO_LIMIT else _FALLBACK

"""Token ids, and padding to the longest row of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from autoprune.errors import ModelError
from autoprune.tasks.ordering import Text

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

Encoded = dict[str, list[int]]


def encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[Text], max_length: int) -> list[Encoded]:
    """Tokenise texts or pairs of texts, special tokens included, cut to ``max_length`` tokens.

    Returns:
        For each text the model's inputs, such as ``input_ids`` and ``attention_mask``, as lists.
    """
    if not texts:
        return []
    columns = [list(texts)] if isinstance(texts[0], str) else [[pair[side] for pair in texts] for side in (0, 1)]
    out = tokenizer(*columns, truncation=True, max_length=max_length)
    return [{name: list(values[i]) for name, values in out.items()} for i in range(len(texts))]


def length_batches(rows: Sequence[Encoded], batch_size: int) -> list[list[int]]:
    """Return indices into ``rows`` in batches, shortest rows first, so that little is padded."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]["input_ids"]))
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def to_batch(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Encoded]) -> dict[str, Tensor]:
    """Stack rows, padded to the longest.

    Returns:
        Tensors (B, longest) int64, one per input of the model.

    Raises:
        ModelError: Padding is needed and the tokenizer has no padding token.
    """
    import torch

    width = max(len(row["input_ids"]) for row in rows)
    ragged = any(len(row["input_ids"]) < width for row in rows)
    if ragged and tokenizer.pad_token_id is None:
        raise ModelError("The model's tokenizer has no padding token.", "Use --batch-size 1, or set its pad_token.")
    fills = {"input_ids": tokenizer.pad_token_id or 0, "token_type_ids": tokenizer.pad_token_type_id}
    return {
        name: torch.tensor([_padded(row[name], width, fills.get(name, 0), tokenizer.padding_side) for row in rows])
        for name in rows[0]
    }


def _padded(row: list[int], width: int, fill: int, side: str) -> list[int]:
    padding = [fill] * (width - len(row))
    return padding + row if side == "left" else row + padding

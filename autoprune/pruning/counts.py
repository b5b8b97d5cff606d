"""Corpus counts, and the tables of the static scorers made from them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from autoprune.errors import DataError

# Function words of English: articles, pronouns, prepositions, conjunctions, auxiliaries.
ENGLISH = tuple(
    """a an the this that these those i you he she it we they me him her us them my your his its our their of in on at
    by for with about against between into through during before after above below to from up down out over under and
    but or nor so yet if because as until while is am are was were be been being have has had do does did will would
    shall should can could may might must not no than then too very just also only there here when where why how all any
    both each few more most other some such own same""".split()
)


def count_ids(batches: Iterable[dict[str, Tensor]], vocabulary: int) -> dict[str, Tensor]:
    """Return ``{"count": (V,) float32}``, how often each id occurs outside padding.

    Args:
        batches: Each with ``input_ids`` (B, N) and, if there is padding, ``attention_mask``.
        vocabulary: Size V of the vocabulary.

    Raises:
        DataError: There was no text.
    """
    count = torch.zeros(vocabulary, dtype=torch.float64)
    for batch in batches:
        ids, mask = batch["input_ids"], batch.get("attention_mask")
        flat = ids.reshape(-1) if mask is None else ids[mask.bool()]
        count += torch.bincount(flat.cpu(), minlength=vocabulary).double()[:vocabulary]
    if not float(count.sum()):
        raise DataError("Tokens cannot be counted in no texts.")
    return {"count": count.float()}


def stopword_table(
    tokenizer: Any, vocabulary: int, *, words: Iterable[str] = ENGLISH, counts: Tensor | None = None, top: int = 100
) -> dict[str, Tensor]:
    """Return ``{"stopword": (V,) float32}``, 1 at stop words.

    Args:
        tokenizer: Turns words into ids; words of several tokens are left out.
        vocabulary: Size V of the vocabulary.
        words: The list.
        counts: (V,) corpus counts; given, the ``top`` most frequent ids are the stop words instead of the list.
        top: How many ids to derive.
    """
    flags = torch.zeros(vocabulary)
    if counts is not None:
        flags[counts.topk(min(top, vocabulary)).indices] = 1.0
        return {"stopword": flags}
    for word in words:
        for form in (word, " " + word, word.capitalize(), " " + word.capitalize()):
            ids = tokenizer.encode(form, add_special_tokens=False)
            if len(ids) == 1 and ids[0] != tokenizer.unk_token_id:
                flags[ids[0]] = 1.0
    return {"stopword": flags}

"""Decoders: what is left of a prompt in each layer's cache, and masks for the steps that follow."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from autoprune.errors import PolicyError
from autoprune.pruning.masks import MaskForm
from autoprune.pruning.selectors import take
from autoprune.pruning.state import Run


@dataclass
class Prefix:
    """What the prefill left in the caches.

    Attributes:
        length: Tokens of the prompt, padding included.
        layers: Layer to original positions (B, k) and padding (B, k) or None, for layers that were shortened.
    """

    length: int
    layers: dict[int, tuple[Tensor, Tensor | None]] = field(default_factory=dict)


_PREFIXES: WeakKeyDictionary[Any, Prefix] = WeakKeyDictionary()


def past_length(cache: Any) -> int:
    """Return how many tokens a cache holds already."""
    return 0 if cache is None else int(cache.get_seq_length())


def check_cache(cache: Any) -> None:
    """Refuse caches of fixed size, whose layers cannot have lengths of their own.

    Raises:
        PolicyError: The cache is not dynamic.
    """
    if cache is not None and "Dynamic" not in type(cache).__name__:
        raise PolicyError(
            f"A pruned decoder cannot fill a {type(cache).__name__}, whose layers are all of one length.",
            "Generate with the default DynamicCache.",
        )


def store_prefix(run: Run, cache: Any) -> None:
    """File what the prefill left, under the cache itself."""
    if cache is not None and run.shortened:
        _PREFIXES[cache] = Prefix(run.length, dict(run.shortened))


def find_prefix(cache: Any) -> Prefix | None:
    """Return what an earlier prefill left in a cache, or None."""
    return None if cache is None else _PREFIXES.get(cache)


def step_mask(
    prefix: Prefix, layer: int, given: Tensor | None, form: MaskForm, queries: int, past: int
) -> Tensor | None:
    """Return the mask of a later step for a layer whose cache was shortened.

    Args:
        prefix: What the prefill left.
        layer: The layer.
        given: What the model made from layer 0's length, (B or 1, 1, q, N + t) or (B, N + t), or None.
        form: What the backend takes where the model made none.
        queries: New tokens q.
        past: Tokens in the cache before them, by layer 0's count.

    Returns:
        (B, 1, q, k + t) or (B, k + t), or None when nothing is masked.
    """
    if layer not in prefix.layers:
        return given
    positions, valid = prefix.layers[layer]
    if given is None:
        return None if valid is None else _unmasked_step(valid, form, queries, past - prefix.length)
    if form.flat(given):
        return _flat_step(positions, valid, given, prefix.length)
    batch = positions.shape[0]
    full = given.expand(batch, -1, -1, -1)
    kept = full.gather(3, positions[:, None, None, :].expand(-1, full.shape[1], queries, -1))
    if valid is not None:
        off = False if kept.dtype == torch.bool else torch.finfo(kept.dtype).min
        kept = kept.masked_fill(~valid[:, None, None, :], off)
    return torch.cat((kept, full[..., prefix.length :]), -1)


def _flat_step(positions: Tensor, valid: Tensor | None, given: Tensor, length: int) -> Tensor:
    """Return (B, k + t), which keys are real, from a given (B, N + t) of the same type."""
    kept = take(given, positions)
    return torch.cat((kept if valid is None else kept * valid, given[:, length:]), 1)


def _unmasked_step(valid: Tensor, form: MaskForm, queries: int, earlier: int) -> Tensor:
    """Return the mask of a step that the model made none for: the prompts had no padding, what is left of them has.

    Args:
        valid: (B, k) bool, false at padding in this layer's cache.
        form: What the backend takes.
        queries: New tokens q.
        earlier: Tokens of earlier steps in the cache.

    Returns:
        (B, 1, q, k + earlier + q), or (B, k + earlier + q) where the backend takes that.
    """
    if form.flat(None):
        return torch.cat((valid, valid.new_ones(valid.shape[0], earlier + queries)), 1)
    new = torch.ones(queries, earlier + queries, dtype=torch.bool, device=valid.device).tril(earlier)
    old = valid[:, None, None, :].expand(-1, 1, queries, -1)
    return form.shaped(torch.cat((old, new.expand(valid.shape[0], 1, -1, -1)), -1), None)

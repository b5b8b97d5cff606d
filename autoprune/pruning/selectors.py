"""How many tokens stay, and which: pure functions on scores."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from autoprune.policy import Stage


def keep_counts(stage: Stage, lengths: list[int], current: list[int], guarded: list[int]) -> list[int]:
    """Return the tokens that a ``keep`` stage leaves in each row.

    Args:
        stage: A stage with ``keep``.
        lengths: Real tokens of the original input, per row.
        current: Tokens now, per row.
        guarded: Protected tokens, per row.
    """
    return [min(now, max(held, stage.target(n))) for n, now, held in zip(lengths, current, guarded, strict=True)]


def scored_counts(
    stage: Stage, score: Tensor, protected: Tensor, valid: Tensor | None, current: list[int]
) -> list[int]:
    """Return the tokens that a ``threshold`` or ``mass`` stage leaves in each row.

    ``threshold`` keeps scores at or above it, scores being normalised to mean 1 over real tokens; ``mass`` keeps
    the smallest set of best tokens that holds that share of the score. Protected tokens are added. This reads the
    counts back from the device once.

    Args:
        stage: A stage with ``threshold`` or ``mass``.
        score: (B, n) float32, not negative.
        protected: (B, n) bool.
        valid: (B, n) bool, or None.
        current: Tokens now, per row.
    """
    real = torch.ones_like(protected) if valid is None else valid
    share = score.clamp(min=0) * real
    total = share.sum(1, keepdim=True)
    if stage.threshold is not None:
        mean = total / real.sum(1, keepdim=True)
        # A row whose scores are all zero has no ranking: every token counts as average.
        normal = torch.where(mean > 0, share / mean.clamp(min=1e-30), 1.0)
        chosen = normal >= stage.threshold
    else:
        chosen = _smallest_set(share, total, float(stage.mass or 0.0))
    counts: list[int] = ((chosen | protected) & real).sum(1).tolist()
    step = stage.multiple
    # A row always keeps a token, or there would be nothing to attend to.
    return [min(now, max(1, math.ceil(count / step) * step)) for count, now in zip(counts, current, strict=True)]


def _smallest_set(share: Tensor, total: Tensor, mass: float) -> Tensor:
    """Return (B, n) bool: the best tokens that together hold ``mass`` of ``total``."""
    values, order = share.sort(dim=1, descending=True, stable=True)
    before = values.cumsum(1) - values
    inside = before < mass * total - 1e-6 * total
    return torch.zeros_like(inside).scatter(1, order, inside)


def rank_key(score: Tensor, protected: Tensor, valid: Tensor | None) -> Tensor:
    """Return (B, n) float32 to sort by: protected first, padding last."""
    key = score.float().masked_fill(protected, math.inf)
    return key if valid is None else key.masked_fill(~valid, -math.inf)


def ranking(score: Tensor, protected: Tensor, valid: Tensor | None) -> Tensor:
    """Return (B, n) int64, token indices from best to worst; of equal scores the lower position comes first."""
    return rank_key(score, protected, valid).sort(dim=1, descending=True, stable=True).indices


def first(order: Tensor, counts: list[int], *, pad_left: bool = False) -> tuple[Tensor, Tensor | None]:
    """Return the ``counts`` first entries of each row of ``order``, in ascending order.

    Args:
        order: (B, n) int64, a permutation of token indices per row.
        counts: How many to take, per row.
        pad_left: Whether the padding of shorter rows goes to the left.

    Returns:
        Indices (B, k) with k = max(counts), and (B, k) bool, false at padding (None when all rows are full).
    """
    k = max(counts)
    taken = order[:, :k]
    if min(counts) == k:
        return taken.sort(dim=1).values, None
    size = order.shape[1]
    wanted = torch.tensor(counts, device=order.device).unsqueeze(1)
    slots = torch.arange(k, device=order.device)
    taken = taken.masked_fill(slots >= wanted, -1 if pad_left else size).sort(dim=1).values
    real = slots >= k - wanted if pad_left else slots < wanted
    return taken.clamp(0, size - 1), real


def take(x: Tensor, index: Tensor) -> Tensor:
    """Return rows ``index`` (B, k) of ``x`` (B, n) or (B, n, d); for one row by the faster ``index_select``."""
    if index.shape[0] == 1 and x.shape[0] == 1:
        return x.index_select(1, index[0])
    if x.dim() == 2:
        return x.gather(1, index)
    return x.gather(1, index.unsqueeze(-1).expand(-1, -1, x.shape[-1]))

"""What the merging reducers share: a pool of tokens in which some are merged into others, round by round."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from autoprune.pruning.context import Reduced, Tokens
from autoprune.pruning.selectors import first, take


@dataclass
class Pool:
    """Tokens while they are being merged; nothing moves, tokens only die.

    Attributes:
        hidden: (B, n, d).
        metric: (B, n, m) unit vectors that similarity is measured on.
        sizes: (B, n) float32, original tokens that each stands for.
        alive: (B, n) bool.
        free: (B, n) bool, alive tokens that may merge.
        owner: (B, n) int64, the token in which each old token now lives, -1 where it was dropped.
        left: Free tokens per row.
        excess: Tokens per row that must still go.
    """

    hidden: Tensor
    metric: Tensor
    sizes: Tensor
    alive: Tensor
    free: Tensor
    owner: Tensor
    left: list[int]
    excess: list[int]

    def members(self) -> tuple[Tensor, Tensor]:
        """Return the free tokens in their order, (B, m) int64, and which entries are real, (B, m) bool."""
        m = max(self.left)
        order = (~self.free).int().sort(dim=1, stable=True).indices[:, :m]
        real = torch.arange(m, device=order.device) < torch.tensor(self.left, device=order.device).unsqueeze(1)
        return order, real

    def merge(self, source: Tensor, target: Tensor, active: Tensor) -> None:
        """Merge tokens into others by size-weighted means; a target is no source of the same call.

        Args:
            source: (B, r) int64.
            target: (B, r) int64.
            active: (B, r) bool, which pairs count.
        """
        weight = self.sizes.gather(1, source) * active
        wide = target.unsqueeze(-1).expand(-1, -1, self.hidden.shape[-1])
        moved = take(self.hidden, source).float() * weight.unsqueeze(-1)
        total = (self.hidden.float() * self.sizes.unsqueeze(-1)).scatter_add(1, wide, moved)
        grown = self.sizes.scatter_add(1, target, weight)
        touched = (grown > self.sizes).unsqueeze(-1)
        self.hidden = torch.where(touched, (total / grown.unsqueeze(-1)).to(self.hidden.dtype), self.hidden)
        self.sizes = grown
        self._retire(source, active, target)

    def drop(self, gone: Tensor) -> None:
        """Remove tokens, (B, n) bool, without a trace."""
        self.alive = self.alive & ~gone
        self.free = self.free & ~gone
        self.owner = self.owner.masked_fill((self.owner >= 0) & gone.gather(1, self.owner.clamp(min=0)), -1)

    def _retire(self, source: Tensor, active: Tensor, target: Tensor) -> None:
        batch, n = self.alive.shape
        follow = torch.arange(n, device=source.device).expand(batch, -1)
        follow = follow.scatter(1, source, torch.where(active, target, source))
        self.owner = torch.where(self.owner >= 0, follow.gather(1, self.owner.clamp(min=0)), self.owner)
        dead = torch.zeros_like(self.alive).scatter(1, source, active)
        self.alive = self.alive & ~dead
        self.free = self.free & ~dead

    def account(self, merged: list[int]) -> None:
        """Take merged tokens off the rows' books."""
        self.left = [a - b for a, b in zip(self.left, merged, strict=True)]
        self.excess = [a - b for a, b in zip(self.excess, merged, strict=True)]

    def finish(self, counts: list[int]) -> Reduced:
        """Return what is left; tokens that could not merge for want of a partner are dropped."""
        if any(self.excess):
            late = self.free.int().flip(1).cumsum(1).flip(1)
            self.drop(self.free & (late <= torch.tensor(self.excess, device=late.device).unsqueeze(1)))
        order = (~self.alive).int().sort(dim=1, stable=True).indices
        index, valid = first(order, counts)
        place = self.alive.cumsum(1) - 1
        owner = torch.where(self.owner >= 0, place.gather(1, self.owner.clamp(min=0)), self.owner)
        return Reduced(take(self.hidden, index), index, valid, take(self.sizes, index), None, owner)


def open_pool(tokens: Tokens, metric: str) -> Pool:
    """Return the pool for a set of tokens.

    Args:
        tokens: The tokens.
        metric: ``hidden`` or ``keys``: what similarity is measured on.
    """
    batch, n = tokens.protected.shape
    vectors = tokens.keys if metric == "keys" and tokens.keys is not None else tokens.hidden
    alive = torch.ones_like(tokens.protected) if tokens.valid is None else tokens.valid
    sizes = torch.ones(batch, n, device=alive.device) if tokens.sizes is None else tokens.sizes
    return Pool(
        hidden=tokens.hidden,
        metric=functional.normalize(vectors.float(), dim=-1),
        sizes=sizes,
        alive=alive,
        free=alive & ~tokens.protected,
        owner=torch.arange(n, device=alive.device).expand(batch, -1),
        left=[now - held for now, held in zip(tokens.current, tokens.guarded, strict=True)],
        excess=[now - wanted for now, wanted in zip(tokens.current, tokens.counts, strict=True)],
    )


def best_partners(a: Tensor, b: Tensor, real_a: Tensor, real_b: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each of ``a`` its most similar partner in ``b``.

    Args:
        a: (B, p, m) unit vectors.
        b: (B, q, m) unit vectors.
        real_a: (B, p) bool.
        real_b: (B, q) bool.

    Returns:
        Similarity (B, p), -inf where there is none, and partner (B, p) int64.
    """
    cosine = torch.bmm(a, b.transpose(1, 2)).masked_fill(~real_b.unsqueeze(1), -torch.inf)
    value, partner = cosine.max(-1)
    return value.masked_fill(~real_a, -torch.inf), partner


def merge_best(pool: Pool, source: Tensor, target: Tensor, value: Tensor, merges: list[int]) -> None:
    """Merge the ``merges`` most similar pairs of each row.

    Args:
        pool: The pool.
        source: (B, p) int64 tokens that would merge.
        target: (B, p) int64 tokens that they would merge into.
        value: (B, p) similarity; -inf where there is no pair.
        merges: Pairs per row.
    """
    rank = value.sort(dim=1, descending=True, stable=True).indices[:, : max(merges)]
    wanted = torch.tensor(merges, device=rank.device).unsqueeze(1)
    active = torch.arange(rank.shape[1], device=rank.device) < wanted
    pool.merge(source.gather(1, rank), target.gather(1, rank), active)
    pool.account(merges)

"""Full-length outputs for token-level heads: drop-and-restore, and merged rows handed back."""

from __future__ import annotations

import torch
from torch import Tensor

from autoprune.pruning.context import Reduced
from autoprune.pruning.selectors import take
from autoprune.pruning.state import Run, Saved


def remember(run: Run, hidden: Tensor, reduced: Reduced) -> None:
    """Keep what is needed to put rows back later; called before a stage changes ``run``.

    Args:
        run: The forward pass.
        hidden: (B, n, d), the tokens before the stage.
        reduced: What the stage leaves.
    """
    if reduced.owner is None and run.sources is None:
        # Every row is written where it came from; later states overwrite earlier ones.
        run.saved.append((hidden, run.positions, run.valid, run.synthetic))
        return
    if run.sources is None:
        run.sources = _sources(run, hidden)
    owner = reduced.owner if reduced.owner is not None else _owner(run, reduced, hidden.shape[1])
    now = run.sources
    following = torch.where(now >= 0, owner.gather(1, now.clamp(min=0)), now)
    lost = (now >= 0) & (following < 0)
    run.lost.append((hidden, now, lost))
    run.sources = following


def _sources(run: Run, hidden: Tensor) -> Tensor:
    """Return (B, N) int64: which token each original position is now, -1 where it has left."""
    batch, n = hidden.shape[:2]
    sources = torch.full((batch, run.length + 1), -1, device=hidden.device)
    where = _slots(run.positions, run.valid, run.synthetic, run.length)
    return sources.scatter(1, where, torch.arange(n, device=hidden.device).expand(batch, -1))[:, : run.length]


def _slots(positions: Tensor, valid: Tensor | None, synthetic: Tensor | None, length: int) -> Tensor:
    """Return original positions, and ``length`` (a slot that is cut off) for padding and fused tokens."""
    if valid is not None:
        positions = positions.masked_fill(~valid, length)
    return positions if synthetic is None else positions.masked_fill(synthetic, length)


def _owner(run: Run, reduced: Reduced, n: int) -> Tensor:
    """Return (B, n): the new index of each old token, -1 where it was dropped."""
    batch, k = reduced.index.shape
    where = _slots(reduced.index, reduced.valid, reduced.synthetic, n)
    owner = torch.full((batch, n + 1), -1, device=where.device)
    return owner.scatter(1, where, torch.arange(k, device=where.device).expand(batch, -1))[:, :n]


def restore(run: Run, hidden: Tensor) -> Tensor:
    """Return the last states of all original positions, (B, N, d).

    Args:
        run: The forward pass, after its last stage.
        hidden: (B, k, d), what the last layer gave.
    """
    if run.sources is None:
        return _overwrite(run, hidden, [*run.saved, (hidden, run.positions, run.valid, run.synthetic)])
    out = _overwrite(run, hidden, run.saved)
    for before, sources, lost in run.lost:
        out = torch.where(lost.unsqueeze(-1), take(before, sources.clamp(min=0)).to(out.dtype), out)
    return torch.where(run.sources.unsqueeze(-1) >= 0, take(hidden, run.sources.clamp(min=0)), out)


def _overwrite(run: Run, like: Tensor, stages: list[Saved]) -> Tensor:
    """Write the states of each stage where they came from, later ones over earlier ones."""
    batch, _, width = like.shape
    out = like.new_zeros((batch, run.length + 1, width))
    for states, positions, valid, synthetic in stages:
        where = _slots(positions, valid, synthetic, run.length)
        out = out.scatter(1, where.unsqueeze(-1).expand(-1, -1, width), states.to(out.dtype))
    return out[:, : run.length]

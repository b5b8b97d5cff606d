"""``cut_and_merge``: the tail is cut off, the rest of the surplus merges into what stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from autoprune._registry import REDUCERS
from autoprune.errors import PolicyError
from autoprune.pruning.context import Reduced, Tokens
from autoprune.pruning.merging import Pool, best_partners, open_pool
from autoprune.pruning.params import choice, number
from autoprune.pruning.reducers.merge import merging_needs
from autoprune.pruning.selectors import ranking, take


@dataclass(frozen=True)
class CutAndMergeParams:
    """Parameters of ``cut_and_merge``."""

    cut: float = number(0.5, 0.0, 1.0, "share of the tokens that leave which is dropped, the worst first")
    metric: str = choice("hidden", ("hidden", "keys"), "what similarity is measured on")
    proportional: bool = choice(False, (False, True), "later attention counts a merged token by its size")


@REDUCERS.register("cut_and_merge")
class CutAndMerge:
    """Sort by score, drop the tail, merge each other leaving token into the most similar one that stays.

    Source: DiffRate (Chen et al., 2023), its operator, from the paper.
    """

    Params: ClassVar[type[CutAndMergeParams]] = CutAndMergeParams
    needs: frozenset[str] = frozenset({"free_order"})
    summary: ClassVar[str] = (
        "the worst tokens are dropped, the other leaving ones merge into the most similar that stay"
    )
    merges: ClassVar[bool] = True
    uses_scores = True

    def __init__(self, params: CutAndMergeParams) -> None:
        self.params = params
        self.needs = merging_needs(self.needs, params.metric, params.proportional)

    def reduce(self, tokens: Tokens) -> Reduced:
        """Return the ``counts`` best tokens of each row, with others merged into them."""
        if tokens.score is None:
            raise PolicyError("The reducer 'cut_and_merge' needs scores.")
        pool = open_pool(tokens, self.params.metric)
        order = ranking(tokens.score, tokens.protected, tokens.valid)
        places = torch.arange(order.shape[1], device=order.device)
        surplus = [int((1 - self.params.cut) * gone + 1e-6) for gone in pool.excess]
        count, now, held, extra = (
            torch.tensor(x, device=order.device).unsqueeze(1)
            for x in (tokens.counts, tokens.current, tokens.guarded, surplus)
        )
        # Rows in which every token that stays is protected have nothing to merge into.
        extra = extra * (count > held)
        stays = (places >= held) & (places < count)
        merging = (places >= count) & (places < count + extra)
        gone = torch.zeros_like(pool.alive).scatter(1, order, (places >= count + extra) & (places < now))
        pool.drop(gone)
        if any(surplus):
            self._merge(pool, order, stays, merging, max(surplus), count)
        pool.excess = [0] * len(surplus)
        return pool.finish(tokens.counts)

    def _merge(self, pool: Pool, order: Tensor, stays: Tensor, merging: Tensor, most: int, count: Tensor) -> None:
        slots = (count + torch.arange(most, device=order.device)).clamp(max=order.shape[1] - 1)
        source, active = order.gather(1, slots), merging.gather(1, slots)
        # A clamped slot may repeat the last one: only the first of each counts.
        active = active & (count + torch.arange(most, device=order.device) < order.shape[1])
        width = int(stays.shape[1])
        _, partner = best_partners(take(pool.metric, source), take(pool.metric, order), active, stays[:, :width])
        pool.merge(source, order.gather(1, partner), active)

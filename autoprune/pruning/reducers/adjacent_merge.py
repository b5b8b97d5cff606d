"""``adjacent_merge``: only neighbours merge, so that time order is kept."""

from __future__ import annotations

from typing import ClassVar

import torch

from autoprune._registry import REDUCERS
from autoprune.pruning.context import Reduced, Tokens
from autoprune.pruning.merging import Pool, merge_best, open_pool
from autoprune.pruning.reducers.merge import MergeParams, merging_needs
from autoprune.pruning.selectors import take


def adjacent_round(pool: Pool) -> bool:
    """Merge the most similar pairs of free neighbours, the later into the earlier; say whether any merged."""
    merges = [min(excess, left // 2) for excess, left in zip(pool.excess, pool.left)]
    if not any(merges):
        return False
    order, real = pool.members()
    pairs = order.shape[1] // 2
    early, late = order[:, 0 : 2 * pairs : 2], order[:, 1 : 2 * pairs : 2]
    cosine = (take(pool.metric, early) * take(pool.metric, late)).sum(-1)
    merge_best(pool, late, early, cosine.masked_fill(~real[:, 1 : 2 * pairs : 2], -torch.inf), merges)
    return True


@REDUCERS.register("adjacent_merge")
class AdjacentMerge:
    """Merge similar neighbours; the scorer is not asked.

    Source: A-ToMe (Li et al., 2023), from the paper's formulae.
    """

    Params: ClassVar[type[MergeParams]] = MergeParams
    needs: frozenset[str] = frozenset({"free_order"})
    summary: ClassVar[str] = "similar neighbours merge (audio); with keep, the scorer is not asked"
    merges: ClassVar[bool] = True
    uses_scores = False

    def __init__(self, params: MergeParams) -> None:
        self.params = params
        self.needs = merging_needs(self.needs, params.metric, params.proportional)

    def reduce(self, tokens: Tokens) -> Reduced:
        """Return the tokens after as many rounds as the counts need."""
        pool = open_pool(tokens, self.params.metric)
        while adjacent_round(pool):
            pass
        return pool.finish(tokens.counts)

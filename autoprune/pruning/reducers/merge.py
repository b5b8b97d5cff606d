"""``merge``: bipartite soft matching."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from autoprune._registry import REDUCERS
from autoprune.pruning.context import Reduced, Tokens
from autoprune.pruning.merging import Pool, best_partners, merge_best, open_pool
from autoprune.pruning.params import choice
from autoprune.pruning.selectors import take


@dataclass(frozen=True)
class MergeParams:
    """Parameters of ``merge``."""

    metric: str = choice("hidden", ("hidden", "keys"), "what similarity is measured on")
    proportional: bool = choice(False, (False, True), "later attention counts a merged token by its size")


def match_round(pool: Pool) -> bool:
    """Merge the most similar pairs between every second free token and the others; say whether any merged.

    A row merges at most half of its free tokens in a round.
    """
    merges = [min(excess, left - left // 2) if left > 1 else 0 for excess, left in zip(pool.excess, pool.left)]
    if not any(merges):
        return False
    order, real = pool.members()
    a, b = order[:, 0::2], order[:, 1::2]
    value, partner = best_partners(take(pool.metric, a), take(pool.metric, b), real[:, 0::2], real[:, 1::2])
    merge_best(pool, a, b.gather(1, partner), value, merges)
    return True


@REDUCERS.register("merge")
class Merge:
    """Merge similar tokens, size-weighted; which ones is decided by similarity, not by the scorer.

    Source: ToMe (Bolya et al., 2023), from the paper's formulae. Matching is repeated until the count is reached.
    """

    Params: ClassVar[type[MergeParams]] = MergeParams
    needs: frozenset[str] = frozenset({"free_order"})
    summary: ClassVar[str] = "similar tokens merge (bipartite soft matching); with keep, the scorer is not asked"
    merges: ClassVar[bool] = True
    uses_scores = False

    def __init__(self, params: MergeParams) -> None:
        self.params = params
        self.needs = merging_needs(self.needs, params.metric, params.proportional)

    def reduce(self, tokens: Tokens) -> Reduced:
        """Return the tokens after as many rounds of matching as the counts need."""
        pool = open_pool(tokens, self.params.metric)
        while match_round(pool):
            pass
        return pool.finish(tokens.counts)


def merging_needs(base: frozenset[str], metric: str, proportional: bool) -> frozenset[str]:
    """Return what a merging reducer needs with these parameters."""
    return base | ({"keys"} if metric == "keys" else set()) | ({"bias"} if proportional else set())

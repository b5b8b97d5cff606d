"""``energy_merge``: merging that protects isolated tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from autoprune._registry import REDUCERS
from autoprune.pruning.context import Reduced, Tokens
from autoprune.pruning.merging import Pool, best_partners, merge_best, open_pool
from autoprune.pruning.params import choice, number
from autoprune.pruning.reducers.merge import merging_needs
from autoprune.pruning.selectors import take


@dataclass(frozen=True)
class EnergyMergeParams:
    """Parameters of ``energy_merge``."""

    margin: float = number(0.5, 0.0, 0.95, "cosine from which tokens count as near")
    metric: str = choice("hidden", ("hidden", "keys"), "what similarity is measured on")
    proportional: bool = choice(False, (False, True), "later attention counts a merged token by its size")


def energy(metric: Tensor, real: Tensor, margin: float) -> Tensor:
    """Return how crowded the neighbourhood of each token is.

    E_i = mean over the other tokens j of exp(-((1 - cos_ij) / sigma)^2 / 2) with sigma = 1 - margin.

    Args:
        metric: (B, m, k) unit vectors.
        real: (B, m) bool.
        margin: From 0 to below 1.

    Returns:
        (B, m) float32 in [0, 1].
    """
    gap = (1 - torch.bmm(metric, metric.transpose(1, 2))) / (1 - margin)
    near = torch.exp(-0.5 * gap.square()) * real.unsqueeze(1)
    others = (real.sum(1, keepdim=True) - 1).clamp(min=1)
    return (near.sum(-1) - near.diagonal(dim1=1, dim2=2)) / others


def energy_round(pool: Pool, margin: float) -> bool:
    """Merge among the most crowded tokens, the less crowded half of them into the other; say whether any merged."""
    merges = [min(excess, left // 2) for excess, left in zip(pool.excess, pool.left)]
    if not any(merges):
        return False
    order, real = pool.members()
    crowd = energy(take(pool.metric, order), real, margin).masked_fill(~real, -1)
    ranked = order.gather(1, crowd.sort(dim=1, descending=True, stable=True).indices)
    wanted, slots = (
        torch.tensor(merges, device=order.device).unsqueeze(1),
        torch.arange(max(merges), device=order.device),
    )
    inside = slots < wanted
    target = ranked[:, : max(merges)]
    source = ranked.gather(1, (wanted + slots).clamp(max=ranked.shape[1] - 1))
    value, partner = best_partners(take(pool.metric, source), take(pool.metric, target), inside, inside)
    merge_best(pool, source, target.gather(1, partner), value, merges)
    return True


@REDUCERS.register("energy_merge")
class EnergyMerge:
    """Merge tokens in crowded places and leave isolated ones alone; the scorer is not asked.

    Source: PiToMe (Tran et al., 2024), from the paper's formulae, in its form for text.
    """

    Params: ClassVar[type[EnergyMergeParams]] = EnergyMergeParams
    needs: frozenset[str] = frozenset({"free_order"})
    summary: ClassVar[str] = "crowded tokens merge, isolated ones are protected; with keep, the scorer is not asked"
    merges: ClassVar[bool] = True
    uses_scores = False

    def __init__(self, params: EnergyMergeParams) -> None:
        self.params = params
        self.needs = merging_needs(self.needs, params.metric, params.proportional)

    def reduce(self, tokens: Tokens) -> Reduced:
        """Return the tokens after as many rounds as the counts need."""
        pool = open_pool(tokens, self.params.metric)
        while energy_round(pool, self.params.margin):
            pass
        return pool.finish(tokens.counts)

"""The best schedule for every budget at once, if harm and cost of stages add up: dynamic programming.

States are (level of removal, stages used) before each layer; every state keeps its non-dominated pairs
of cost and harm. The labels that survive the last layer are the front that the profile promises.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

Floats = NDArray[np.float64]
_LABELS = 48  # kept per state; what is thinned out differs by less than the cost table's error


@dataclass(frozen=True)
class Schedule:
    """One solution.

    Attributes:
        cost: Predicted latency in the unit of the costs.
        harm: Predicted KL in nats.
        removal: Removal before each layer.
    """

    cost: float
    harm: float
    removal: tuple[float, ...]


@dataclass
class _Labels:
    """Non-dominated (cost, harm) with the level that each layer had on the way, shape (k, layers so far)."""

    cost: Floats
    harm: Floats
    path: NDArray[np.int64]

    def grown(self, cost: float, harm: float, level: int) -> _Labels:
        """Return the labels after one more layer at this level."""
        here = np.full((len(self.cost), 1), level, dtype=np.int64)
        return _Labels(self.cost + cost, self.harm + harm, np.concatenate([self.path, here], axis=1))


def _best(parts: list[_Labels]) -> _Labels:
    cost = np.concatenate([part.cost for part in parts])
    harm = np.concatenate([part.harm for part in parts])
    path = np.concatenate([part.path for part in parts])
    order = np.lexsort((harm, cost))
    lowest = np.minimum.accumulate(harm[order])
    keep = order[np.concatenate([[True], lowest[1:] < lowest[:-1]])]
    if len(keep) > _LABELS:
        keep = keep[np.unique(np.linspace(0, len(keep) - 1, _LABELS).round().astype(int))]
    return _Labels(cost[keep], harm[keep], path[keep])


def schedules(
    costs: Floats,
    harms: Sequence[Floats],
    levels: Sequence[float],
    stage_cost: float,
    max_stages: int,
    places: set[int],
) -> list[Schedule]:
    """Return the non-dominated schedules, cheapest first.

    Args:
        costs: Cost of each layer at each level, shape (layers, levels); what is outside the layers
            belongs to the layer whose tokens it sees.
        harms: Per layer the harm (nats) of going from one level to another there, shape (levels, levels).
        levels: Removal per level, ascending, the first 0.
        stage_cost: What every stage costs beside.
        max_stages: Most stages.
        places: Layers before which a stage may stand (0: the input).
    """
    states: dict[tuple[int, int], _Labels] = {
        (0, 0): _Labels(np.zeros(1), np.zeros(1), np.zeros((1, 0), dtype=np.int64))
    }
    for layer in range(len(costs)):
        reached: dict[tuple[int, int], list[_Labels]] = {}
        for (level, used), labels in states.items():
            for target in _targets(level, used, len(levels), max_stages, layer in places):
                moved = target != level
                cost = float(costs[layer][target]) + stage_cost * moved
                harm = float(harms[layer][level, target]) if moved else 0.0
                reached.setdefault((target, used + moved), []).append(labels.grown(cost, harm, target))
        states = {state: _best(parts) for state, parts in reached.items()}
    final = _best(list(states.values()))
    return [
        Schedule(float(cost), float(harm), tuple(float(levels[i]) for i in path))
        for cost, harm, path in zip(final.cost, final.harm, final.path, strict=True)
    ]


def _targets(level: int, used: int, n_levels: int, max_stages: int, allowed: bool) -> range:
    """Return the levels that a layer can have after a layer of this level."""
    return range(level, n_levels if allowed and used < max_stages else level + 1)


def cheapest_harm(found: Sequence[Schedule], cost: float) -> Schedule | None:
    """Return the least harmful schedule of at most this cost, or None."""
    fitting = [schedule for schedule in found if schedule.cost <= cost]
    return min(fitting, key=lambda schedule: schedule.harm, default=None)

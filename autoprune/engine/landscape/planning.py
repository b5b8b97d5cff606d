"""From harm curves to shapes: the profile's best schedules for any budget, ready to be enqueued."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from autoprune.engine.landscape.knapsack import Schedule, cheapest_harm, schedules
from autoprune.engine.landscape.removal import NONE, Method
from autoprune.spaces.space import Shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autoprune.engine.landscape.costs import CostSurface
    from autoprune.engine.landscape.harm import HarmModel
    from autoprune.spaces.space import ShapeStage, Space

_LEVELS = tuple(np.round(np.linspace(0.0, 2.8, 15), 3).tolist())  # down to 6 % of the tokens
_EARLY, _FILTERED = 1 / 3, 0.65  # of the layers, and of the removal: the second cut of a mixture, and its first
_SCORERS = 3  # scorers combined at the input and inside
_STAGE_SHARE = 0.012  # of dense, for one stage's scoring and gathering, where nothing better is known


@dataclass(frozen=True)
class Plan:
    """A solution of the profile: a shape for a latency.

    Attributes:
        shape: Where and how to prune.
        share: Target latency as a share of the limit.
        harm: Predicted KL in nats.
    """

    shape: Shape
    share: float
    harm: float


@dataclass(frozen=True)
class Planner:
    """Solves the knapsack for every method of a space.

    Attributes:
        harm: What removal does.
        surface: What layers cost.
        space: The search space.
    """

    harm: HarmModel
    surface: CostSurface
    space: Space

    def methods(self) -> Iterator[Method]:
        """Yield every mixture of a good scorer at the input (or none) and a good one inside (or none)."""
        middle = self.space.layers[len(self.space.layers) // 2] if self.space.layers else 0
        for before in (NONE, *self._gentlest(self.space.input_labels(), 0)):
            for inside in (*self._gentlest(self.space.inside_labels(), middle), NONE):
                if before or inside:
                    yield Method(before, inside)

    def _gentlest(self, labels: Sequence[str], layer: int) -> list[str]:
        """Return the profiled scorers that harm least when half of the tokens leave before a layer."""
        half = np.log([2.0])
        known = [label for label in labels if label in self.harm.curves]
        return sorted(known, key=lambda label: float(self.harm.curves[label].at(layer, half)[0]))[:_SCORERS]

    @cached_property
    def fronts(self) -> dict[Method, list[Schedule]]:
        """The schedules of every method."""
        return {method: self.front(method) for method in self.methods()}

    def front(self, method: Method) -> list[Schedule]:
        """Return the method's schedules from fast and harmful to slow and gentle.

        Costs are in ms, harms in nats to the power of the harm model's exponent.
        """
        inside = set(self.space.layers) - {0} if method.inside else set()  # before layer 0 stands the input's stage
        places = {0} | inside if method.before else inside
        count = self.space.file.stages.count[1] if self.space.file.stages and method.inside else 0
        most = bool(method.before) + count
        stage_ms = _STAGE_SHARE * self.surface.dense_ms
        return schedules(self._costs(), self._harms(method), _LEVELS, stage_ms, most, places)

    def plans(self, limit_ms: float, shares: Sequence[float], per_share: int) -> list[Plan]:
        """Return the best shapes at some shares of the limit, the best method first.

        Args:
            limit_ms: The budget.
            shares: Target latencies as shares of the limit.
            per_share: Methods per share.
        """
        plans = []
        for share in shares:
            found = [(m, cheapest_harm(front, share * limit_ms)) for m, front in self.fronts.items()]
            usable = [(m, s) for m, s in found if s is not None and s.removal[-1] > 0]
            best: list[Plan] = []
            for method, schedule in sorted(usable, key=lambda pair: pair[1].harm):
                shape = self.shape(method, schedule)
                # A mixture that leaves one of its scorers idle is another method's schedule once more.
                if all(shape != plan.shape for plan in best):
                    best.append(Plan(shape, share, schedule.harm ** (1 / self.harm.exponent)))
            plans += best[:per_share]
        return plans

    def mixed(self) -> list[Shape]:
        """Return schedules that cut once more, early, behind each of the two best scorers at the input.

        The profile's probes have one stage each, and it takes harms to add up. What a second stage removes from texts
        that are filtered already often harms less than that: these few tell by how much.
        """
        early = round(_EARLY * self.surface.n_layers)
        layer = next((place for place in self.space.layers if place >= max(1, early)), None)
        if layer is None:
            return []
        reducers = [choice.label for choice in self.space.reducer_choices()]
        reduce = "fuse" if "fuse" in reducers else None
        return [
            Shape(
                (self.space.input_stage(before, _FILTERED), self.space.stage(layer, inside, 1.0, reduce)),
                self._last_layer,
                protect=self.space.protect,
            )
            for inside in self._gentlest(self.space.inside_labels(), layer)[:1]
            for before in self._gentlest(self.space.input_labels(), 0)[:2]
        ]

    def shape(self, method: Method, schedule: Schedule) -> Shape:
        """Return a schedule as a shape, up to its scale."""
        stages: list[ShapeStage] = []
        last, before = schedule.removal[-1], 0.0
        for layer, removal in enumerate(schedule.removal):
            if removal == before:
                continue
            weight = removal / last
            if layer == 0:
                stages.append(self.space.input_stage(method.before, weight))
            else:
                stages.append(self.space.stage(layer, method.inside, weight))
            before = removal
        return Shape(tuple(stages), self._last_layer, protect=self.space.protect)

    @property
    def _last_layer(self) -> Literal["first_token", "full"]:
        """The cheapest last layer of the space."""
        return "first_token" if "first_token" in self.space.file.last_layer else "full"

    def _costs(self) -> np.ndarray:
        """Return each layer's cost per level; what is outside the layers sees the tokens of layer 0."""
        n, k = self.surface.n_layers, len(_LEVELS)
        one = np.zeros((n, k, n))
        one[np.arange(n), :, np.arange(n)] = _LEVELS
        rows = np.concatenate([np.zeros((1, n)), one.reshape(n * k, n)])
        found = self.surface.milliseconds(rows, np.full(len(rows), self._last_layer == "first_token"))
        base, costs = float(found[0]), np.asarray(found[1:].reshape(n, k) - found[0])
        costs[0] += base  # costs are differences to dense; dense itself is counted once
        return costs

    def _harms(self, method: Method) -> list[np.ndarray]:
        n = self.surface.n_layers
        reached = self.harm.reach(np.arange(n), np.repeat(_LEVELS, n).reshape(-1, n), method, n).T
        return [np.maximum(total[None, :] - total[:, None], 0.0) for total in reached]

"""``Guide``: what the model-based sampler knows of the task beside Optuna's trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from autoprune.engine.landscape.harm import HarmModel
from autoprune.engine.landscape.planning import Planner
from autoprune.engine.landscape.refit import refit
from autoprune.engine.landscape.removal import Floats, Method, method_of_shape, removal_of, weights_of
from autoprune.engine.projection import FLOOR_ROOM, MARGIN

if TYPE_CHECKING:
    from autoprune.engine.landscape.costs import CostSurface
    from autoprune.engine.projection import Projector
    from autoprune.policy import PruningPolicy
    from autoprune.spaces.space import Shape, Space

_MOST = 6.0
_PLANS = 3  # methods for which the best schedule is a candidate


@dataclass
class Candidates:
    """Policies that could be proposed, placed on their latency targets.

    Attributes:
        params: Parameter values of each.
        removal: Shape (m, layers).
        methods: One per row.
        cost_ms: Predicted latency, shape (m,).
        log_harm: What the profile predicts, shape (m,).
        keys: What tells a policy from another: whole tokens per layer, method, last layer.
    """

    params: list[dict[str, Any]]
    removal: Floats
    methods: list[Method]
    cost_ms: Floats
    log_harm: Floats
    keys: list[tuple[Any, ...]]

    def rows(self, keep: NDArray[np.bool_]) -> Candidates:
        """Return those where ``keep``, shape (m,), is true."""
        chosen = np.flatnonzero(keep)
        return Candidates(
            [self.params[i] for i in chosen],
            self.removal[chosen],
            [self.methods[i] for i in chosen],
            self.cost_ms[chosen],
            self.log_harm[chosen],
            [self.keys[i] for i in chosen],
        )


@dataclass
class Guide:
    """The space, its costs and its harm, for one budget.

    Attributes:
        space: The search space.
        projector: Predicts single policies exactly, all overheads included.
        limit_ms: The budget.
        floor_ms: The lowest latency that any policy reaches.
        harm: What the sensitivity profile found, and what was learned since.
        deep: Whether the model-based sampler draws the whole front, not only within the space's shares of the budget.
        snap: Rounds removals, shape (m, layers), to those that exist; None: all exist.
        surface: What layers cost.
        aims: Factor on the share of the budget that is aimed at, by number of the sampled trial; none is 1.
    """

    space: Space
    projector: Projector
    limit_ms: float
    floor_ms: float
    harm: HarmModel = field(default_factory=lambda: HarmModel({}))
    deep: bool = False
    snap: Callable[[Floats], Floats] | None = None
    surface: CostSurface = field(init=False)
    aims: dict[int, float] = field(default_factory=dict)
    planner: Planner = field(init=False)
    _extra: dict[tuple[Method, int, str], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.surface = self.projector.surface()
        self._profile = self.harm
        self.planner = Planner(self.harm, self.surface, self.space)

    def learn(self, removal: Floats, methods: Sequence[Method], log_kl: Floats, noise: Floats) -> None:
        """Bend the profile's curves until they explain these policies; see ``refit``."""
        learned = refit(self._profile, removal, methods, log_kl, noise)
        if learned is not self.harm:
            self.harm, self.planner = learned, Planner(learned, self.surface, self.space)

    def planned(self, share: float, aim: float = 1.0) -> list[dict[str, Any]]:
        """Return the parameters of the least harmful schedules for a latency, as far as is known; see ``target``."""
        plans = self.planner.plans(self.target(share, aim), [1.0], _PLANS)
        found = [self.space.encode(plan.shape, share) for plan in plans]
        return [params for params in found if params is not None]

    def forget_costs(self) -> None:
        """Drop what was cached of the cost table, whose corrections change as policies are timed."""
        self._extra.clear()

    def removal(self, policy: PruningPolicy) -> Floats:
        """Return what a policy is expected to remove before each layer, shape (layers,)."""
        return removal_of(policy, self.projector.expected.keeps(policy), self.space.n_layers)

    @property
    def reach_ms(self) -> tuple[float, float]:
        """Least and largest latency of what the model-based sampler proposes, as predicted."""
        low, high = (MARGIN * self.target(share) for share in self.space.file.share)
        return (MARGIN * self.lowest_ms, max(high, MARGIN * self.projector.dense_ms)) if self.deep else (low, high)

    @property
    def lowest_ms(self) -> float:
        """The least latency that anything aims at; predictions err."""
        return min(self.limit_ms, self.floor_ms * FLOOR_ROOM)

    def target(self, share: float, aim: float = 1.0) -> float:
        """Return the latency that is aimed at: a share of the budget, but not below what can be reached.

        Args:
            share: Of the budget, within the space's range.
            aim: Factor on it, by which a policy goes outside that range.
        """
        return max(aim * share * self.limit_ms, self.lowest_ms)

    def place(self, params: Sequence[dict[str, Any]], aim: float = 1.0) -> Candidates:
        """Scale shapes onto their targets; those that cannot meet them are left out."""
        shapes = [self.space.shape(values) for values in params]
        weights = np.stack([weights_of(shape, self.space.n_layers) for shape in shapes])
        methods = [method_of_shape(shape) for shape in shapes]
        first = np.asarray([shape.last_layer == "first_token" for shape in shapes])
        extra = np.asarray(
            [self._beside(s, m, w, f) for s, m, w, f in zip(shapes, methods, weights, first, strict=True)]
        )
        target = MARGIN * np.asarray([self.target(float(values["share"]), aim) for values in params])
        scale = self.surface.scale(weights, first, target - extra, _MOST)
        fits = np.isfinite(scale)
        removal = weights * np.where(fits, scale, 0.0)[:, None]
        if self.snap is not None:
            removal = self.snap(removal)
        cost = self.surface.milliseconds(removal, first) + extra
        counts = self.surface.counts(removal).astype(int)
        keys = [(*row.tolist(), method, bool(f)) for row, method, f in zip(counts, methods, first, strict=True)]
        found = Candidates(list(params), removal, methods, cost, self.harm.log_harm(removal, methods), keys)
        cuts = counts[:, -1] < self.surface.n_tokens
        return found.rows(fits & cuts & (cost <= max(1.0, aim) * self.limit_ms * 1.001))

    def key(self, removal: Floats, method: Method, first_token: bool) -> tuple[Any, ...]:
        """Return the key of one policy, see ``Candidates``."""
        return (*self.surface.counts(removal[None])[0].astype(int).tolist(), method, first_token)

    def _beside(self, shape: Shape, method: Method, weights: Floats, first: bool) -> float:
        """Return what a shape costs beside its layers (scoring, gathering), from one exact prediction."""
        known = (method, len(shape.stages), shape.last_layer)
        if known not in self._extra:
            exact = self.projector.predict_shape(shape, 1.0)
            layers = self.surface.milliseconds(weights[None], np.asarray([first]))[0]
            self._extra[known] = exact - float(layers)
        return self._extra[known]

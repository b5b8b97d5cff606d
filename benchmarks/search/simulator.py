"""An analytic task with a known optimum, for any depth.

Latency: per layer a linear and a quadratic term in the tokens, counted in steps of eight, times a hidden factor of
3 %; searchers know a cost table without steps and factors. Harm: every cut adds the step of a power law in the removal,
weighted by depth (early cuts harm more) and by method, and more of it where much is gone already, which no one-stage
profile can see. An example is a margin in favour of its class; harm moves it down and spreads it, by a draw that most
policies share, so that scores on the same examples are paired. The true score is the share of all examples, in closed
form. The true front comes from dynamic programming over all non-increasing vectors of whole steps and all methods.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product

import numpy as np
from lattice import SPACE
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm
from world import Floats, Truth

from autoprune.evaluate.quality import Logits
from autoprune.front.pareto import non_dominated
from autoprune.latency.cost_table import CostTable, Line
from autoprune.policy import PruningPolicy, Stage
from autoprune.spaces.schema import load_space_file
from autoprune.spaces.space import Space

TOKENS, STEP, PROTECTED = 256, 8, 2
LOW = 0.125  # the lowest keep
EXAMPLES, SHARED = 1000, 0.8  # examples scored, and how much of an example's draw all policies share
MARGIN, SPREAD = 4.66, 3.0  # dense: 94 % of margins are positive
HIDDEN, UNEVEN = 0.03, 0.3  # deviations by layer, of log latency and of log harm
_TABLE = (8, 32, 64, 96, 128, 160, 192, 224, 256)
_BINS = 600  # of cost, among which the dynamic programming keeps one solution each
INPUTS = ("lexicon", "truncate")
INSIDES = (("cls_attention", "drop"), ("cls_attention", "fuse"), ("random", "drop"), ("random", "fuse"))
Method = tuple[str | None, tuple[str, str] | None]


@dataclass
class Simulated:
    """One simulated task; another seed is another task.

    Attributes:
        depth: Layers.
        seed: Of the task.
        budget: Share of dense at which the harm is scaled, so that the best policy there loses 1 to 4 points.
    """

    depth: int
    seed: int
    budget: float = 0.5
    low: float = LOW
    tables: Mapping[str, str] = field(default_factory=lambda: {"lexicon": "sha256:" + "0" * 64})

    def __post_init__(self) -> None:
        self.name = f"simulator, {self.depth} layers"
        self._rng = rng = np.random.default_rng([self.seed, self.depth])
        file = load_space_file(str(SPACE)).model_copy(update={"last_layer": ["full"]})
        self.space = Space(file, self.depth)
        self.lengths, self.n_protected, self.places = (TOKENS,), PROTECTED, self.depth
        self.inputs, self.insides = list(INPUTS), list(INSIDES)
        self._quadratic, self._power = rng.uniform(0.15, 0.3), rng.uniform(1.5, 2.2)
        self._hidden = np.exp(rng.normal(0.0, HIDDEN, self.depth))
        fall = -rng.uniform(2.0, 3.0) * np.arange(self.depth) / self.depth
        self._weights = np.exp(fall + rng.normal(0.0, UNEVEN, self.depth))
        self._crowd = rng.uniform(0.0, 0.6)
        self._method = {
            "lexicon": rng.uniform(0.4, 0.8),
            "truncate": rng.uniform(1.2, 2.5),
            "cls_attention": 1.0,
            "random": rng.uniform(2.5, 4.0),
            "drop": 1.0,
            "fuse": rng.uniform(0.85, 1.15),
        }
        self._draws = rng.normal(size=(2, EXAMPLES))
        self.labels: NDArray[np.int64] = rng.integers(0, 2, EXAMPLES)
        self._scale = 1.0
        self.table = self._cost_table()
        self._scale = self._harm_at(rng.uniform(0.01, 0.04)) / self._optimum(self.budget)
        self.dense = self.logits(PruningPolicy())
        self.floor_ratio = float(min(cost for cost, _ in self._front))

    def _layer(self, tokens: Floats) -> Floats:
        """Return a layer's milliseconds without steps and hidden factor."""
        share = np.asarray(tokens, dtype=np.float64) / TOKENS
        return (1 - self._quadratic) * share + self._quadratic * share**2

    def _cost_table(self) -> CostTable:
        row = tuple(self._layer(np.asarray(_TABLE, dtype=np.float64)).tolist())
        dense = float(self.depth)
        lines = {"lexicon@input": 0.002, "truncate@input": 0.001, "cls_attention@layer": 0.008, "random@layer": 0.004}
        return CostTable(
            tokens=_TABLE,
            layers_ms=(row,) * self.depth,
            around_ms=tuple(0.05 * dense * n / TOKENS for n in _TABLE),
            scorers={name: Line(share * dense) for name, share in lines.items()},
            reducers={"drop": Line(0.0), "fuse": Line(0.003 * dense)},
        )

    def policy(self, keeps: Sequence[float], before: str | None, inside: tuple[str, str] | None) -> PruningPolicy:
        stages, previous = [], 1.0
        for layer, keep in enumerate(round(float(keep), 4) for keep in keeps):
            if keep < previous and layer == 0:
                table = {"table": self.tables[before]} if before in self.tables else {}
                stages.append(Stage("input", str(before), keep=keep, params=table))
            elif keep < previous and inside is not None:
                stages.append(Stage(layer, inside[0], keep=keep, reduce=inside[1]))
            previous = keep
        return PruningPolicy(tuple(stages))

    def snap(self, policy: PruningPolicy) -> PruningPolicy:
        return policy

    def snap_removal(self, removal: Floats) -> Floats:
        return removal

    def _milliseconds(self, counts: Sequence[int], embedded: int, beside: float) -> float:
        stepped = np.ceil(np.asarray(counts) / STEP) * STEP
        return float(self._layer(stepped) @ self._hidden) + self.table.around(embedded) + beside

    def latency(self, policy: PruningPolicy) -> float:
        counts = policy.layer_counts(TOKENS, self.depth, PROTECTED)
        first = counts[0]
        beside = self.table.predict(policy, TOKENS, PROTECTED) - self.table.ideal(policy, TOKENS, PROTECTED)
        return self._milliseconds(counts, first, beside) / self._dense_ms

    @cached_property
    def _dense_ms(self) -> float:
        return self._milliseconds([TOKENS] * self.depth, TOKENS, 0.0)

    def cost(self, policy: PruningPolicy) -> float:
        return self.table.predict_ratio(policy, TOKENS, PROTECTED)

    def harm(self, policy: PruningPolicy) -> float:
        """Return the harm of a policy, in units of the margin."""
        total, before = 0.0, 0.0
        counts = policy.stage_counts(TOKENS, PROTECTED)
        for stage, count in zip(policy.stages, counts, strict=True):
            removal = -math.log(count / TOKENS)
            layer = 0 if stage.layer == "input" else stage.layer
            method = self._method[stage.scorer] * (self._method[stage.reduce] if stage.layer != "input" else 1.0)
            total += float(self._step(layer, method, before, removal))
            before = max(before, removal)
        return total * self._scale

    def _step(self, layer: int, method: float, before: float | Floats, after: float | Floats) -> Floats:
        gained = np.maximum(np.power(after, self._power) - np.power(before, self._power), 0.0)
        return np.asarray(self._weights[layer] * method * gained * (1.0 + self._crowd * np.asarray(before)))

    def logits(self, policy: PruningPolicy) -> Logits:
        harm = self.harm(policy)
        own = np.random.default_rng([int(policy.digest()[:12], 16), self.seed]).normal(size=EXAMPLES)
        draw = math.sqrt(SHARED) * self._draws[1] + math.sqrt(1 - SHARED) * own
        margin = MARGIN + SPREAD * self._draws[0] + harm * (draw - 1.0)
        signed = np.where(self.labels == 1, margin, -margin)
        return np.stack([-signed / 2, signed / 2], axis=1).astype(np.float32)

    def true_score(self, policy: PruningPolicy) -> float:
        return self._score(self.harm(policy))

    def _score(self, harm: float) -> float:
        return float(norm.cdf((MARGIN - harm) / math.hypot(SPREAD, harm)))

    def _harm_at(self, drop: float) -> float:
        """Return the harm that costs so much of the score."""
        return float(brentq(lambda harm: self._score(0.0) - self._score(harm) - drop, 0.0, 50.0))

    @cached_property
    def truth(self) -> Truth:
        """The front of all policies."""
        ratio, harm = zip(*self._front, strict=True)
        return Truth(np.asarray(ratio), np.asarray([self._score(h * self._scale) for h in harm]), 0.5)

    def _optimum(self, budget: float) -> float:
        return min(harm for cost, harm in self._front if cost <= budget)

    @cached_property
    def _front(self) -> list[tuple[float, float]]:
        """Non-dominated (latency / dense, unscaled harm) of all policies, fastest first."""
        points = [point for method in self._methods() for point in self._solve(method)]
        cost, harm = np.asarray(points).T
        chosen = non_dominated(cost, -harm)
        return sorted((float(cost[i]), float(harm[i])) for i in chosen)

    def _methods(self) -> Iterator[Method]:
        yield from product((None, *self.inputs), (None, *self.insides))

    def _solve(self, method: Method) -> Iterator[tuple[float, float]]:
        """Yield non-dominated (latency / dense, harm) of one method by dynamic programming over layers.

        A state is the count before a layer, in steps of eight: between two steps nothing gets cheaper. Costs and harms
        of cuts depend on nothing but the counts before and after. Solutions of a state that lie in one of 600 bins of
        cost are thinned to the least harmful one.
        """
        before, inside = method
        counts = np.arange(TOKENS, int(LOW * TOKENS) - 1, -STEP)
        removal = -np.log(counts / TOKENS)
        lines = self.table.scorers
        start = lines[f"{before}@input"].base_ms if before else math.inf
        states = [(np.zeros(0), np.zeros(0))] * len(counts)
        for level, count in enumerate(counts):
            around = self.table.around(int(count)) + (start if level else 0.0)
            harm = self._step(0, self._method[before] if before else 0.0, 0.0, removal[level])
            states[level] = (np.asarray([around + self._at(0, level)]), np.asarray([float(harm)]))
            if level and before is None:
                states[level] = (np.zeros(0), np.zeros(0))
        cut = (
            math.inf if inside is None else lines[f"{inside[0]}@layer"].base_ms + self.table.reducers[inside[1]].base_ms
        )
        factor = 0.0 if inside is None else self._method[inside[0]] * self._method[inside[1]]
        for layer in range(1, self.depth):
            states = [self._reach(states, layer, level, removal, cut, factor) for level in range(len(counts))]
        for cost, harm in states:
            yield from zip((cost / self._dense_ms).tolist(), harm.tolist(), strict=True)

    def _at(self, layer: int, level: int) -> float:
        return float(self._layer(np.asarray(TOKENS - STEP * level)) * self._hidden[layer])

    def _reach(
        self, states: list[tuple[Floats, Floats]], layer: int, level: int, removal: Floats, cut: float, factor: float
    ) -> tuple[Floats, Floats]:
        """Return the solutions that have the count of ``level`` before ``layer``."""
        costs, harms = [states[level][0]], [states[level][1]]
        if math.isfinite(cut):
            for source in range(level):
                costs.append(states[source][0] + cut)
                harms.append(states[source][1] + self._step(layer, factor, removal[source], removal[level]))
        return _thin(np.concatenate(costs) + self._at(layer, level), np.concatenate(harms), self._dense_ms * 1.1)


def _thin(cost: Floats, harm: Floats, most: float) -> tuple[Floats, Floats]:
    """Keep the non-dominated solutions, and of those in one bin of cost the least harmful."""
    order = np.lexsort((harm, cost))
    cost, harm = cost[order], harm[order]
    best = np.concatenate([[True], harm[1:] < np.minimum.accumulate(harm)[:-1]])[: len(harm)]
    cost, harm = cost[best], harm[best]
    bins = (cost / most * _BINS).astype(int)
    last = np.concatenate([bins[1:] != bins[:-1], [True]])[: len(bins)]
    return cost[last], harm[last]

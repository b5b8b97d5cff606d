"""``EvolutionSampler``: the search of the length-adaptive transformer (Kim and Cho, 2021, arXiv 2010.07003).

The population is the front found so far. A child is in turn a mutation of one parent (each parameter is
drawn anew with probability 0.5) or the mean of two parents. In the paper a parameter is a layer's length
and lengths stay sorted; here it is any parameter of any space, and where the mean of two values is no
value (categories), one of the two is taken by chance. Feasible policies come before infeasible ones, as
the paper's children outside the budget are discarded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from autoprune._registry import SAMPLERS

if TYPE_CHECKING:
    from optuna.study import Study

MUTATION = 0.5  # chance that a mutation touches a parameter, as in the paper
_STARTUP = 8  # finished trials before which children are drawn at random, as for the other samplers
_LEAST = 4  # parents: while the front is smaller, the next ranks belong to the population as well
_TRIES = 20  # children that repeat a trial's parameters before one is taken nevertheless


class EvolutionSampler(BaseSampler):
    """Mutations and means of the front's members, for any search space.

    Args:
        seed: Seed of everything random.
        mutation: Chance that a mutation touches a parameter (0 to 1).
    """

    def __init__(self, seed: int | None = None, mutation: float = MUTATION) -> None:
        self._rng = np.random.default_rng(seed)
        self._random = RandomSampler(seed)
        self._mutation = mutation
        self._space = IntersectionSearchSpace(include_pruned=True)
        self._population: list[FrozenTrial] = []
        self._known: set[str] = set()
        self._open: set[int] = set()
        self._next = self._finished = 0

    def reseed_rng(self) -> None:
        """Draw a new seed, so that copies in other processes differ."""
        self._rng = np.random.default_rng()
        self._random.reseed_rng()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the parameters that all trials so far have in common, those with one value left out."""
        found = self._space.calculate(study)
        return {name: distribution for name, distribution in found.items() if not distribution.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return a child of the front; random values while too little is known."""
        if not search_space:
            return {}
        self._refresh(study)
        parents = [t for t in self._population if search_space.keys() <= t.params.keys()]
        if self._finished < _STARTUP or not parents:
            return {n: self._random.sample_independent(study, trial, n, d) for n, d in search_space.items()}
        for _ in range(_TRIES):
            child = self._child(study, trial, parents, search_space)
            if _key(child) not in self._known:
                break
        return child

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a random value: the parameter is new or not shared by all trials."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def _refresh(self, study: Study) -> None:
        """Read what is new: a finished trial once, a running one until it ends."""
        trials = study.get_trials(deepcopy=False)
        ended: list[FrozenTrial] = []
        # The last of the open ones may have been dropped (store/drafts.py); its number is then free or another's.
        numbers = [*(n for n in sorted(self._open) if n < len(trials)), *range(self._next, len(trials))]
        self._next, self._open = len(trials), set()
        for number in numbers:
            one = trials[number]
            self._known.add(_key(one.params))
            if not one.state.is_finished():
                self._open.add(number)
            elif one.state is TrialState.COMPLETE:
                ended.append(one)
        self._finished += len(ended)
        if ended:
            self._population = population([*self._population, *ended], study.directions)

    def _child(
        self, study: Study, trial: FrozenTrial, parents: Sequence[FrozenTrial], space: Mapping[str, BaseDistribution]
    ) -> dict[str, Any]:
        first, second = (parents[i].params for i in self._rng.choice(len(parents), 2, replace=len(parents) < 2))
        if self._rng.random() < 0.5:
            return {name: self._mean(first[name], second[name], space[name]) for name in space}
        touched = self._rng.random(len(space)) < self._mutation
        return {
            name: self._random.sample_independent(study, trial, name, space[name]) if touch else first[name]
            for name, touch in zip(space, touched, strict=True)
        }

    def _mean(self, first: Any, second: Any, distribution: BaseDistribution) -> Any:
        """Return the middle of two values on the distribution's own scale, or one of them."""
        if isinstance(distribution, CategoricalDistribution):
            return first if self._rng.random() < 0.5 else second
        if not isinstance(distribution, IntDistribution | FloatDistribution):
            raise TypeError(f"There is no middle of two values of {distribution!r}.")
        middle = math.sqrt(first * second) if distribution.log else (first + second) / 2
        if distribution.step is not None:
            # Halves go up or down by chance: always up would drift.
            steps = math.floor((middle - distribution.low) / distribution.step + self._rng.uniform(0.25, 0.75))
            middle = distribution.low + steps * distribution.step
        middle = min(max(middle, distribution.low), distribution.high)
        return int(middle) if isinstance(distribution, IntDistribution) else float(middle)


def population(trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]) -> list[FrozenTrial]:
    """Return the front of finished trials, with the next ranks where it has fewer than ``_LEAST`` members.

    Feasible trials come first; infeasible ones are ranked by how far they are outside.
    """
    excess = np.asarray([sum(max(0.0, value) for value in trial.constraints.values()) for trial in trials])
    signs = np.asarray([1.0 if direction == StudyDirection.MINIMIZE else -1.0 for direction in directions])
    losses = np.asarray([trial.values for trial in trials], dtype=np.float64) * signs
    inside = np.flatnonzero(excess <= 0)
    chosen: list[int] = []
    while len(inside) and len(chosen) < _LEAST:
        best = _front(losses[inside])
        chosen += inside[best].tolist()
        inside = inside[~best]
    outside = np.flatnonzero(excess > 0)
    nearest = outside[np.argsort(excess[outside], kind="stable")]
    return [trials[i] for i in [*chosen, *nearest[: max(0, _LEAST - len(chosen))].tolist()]]


def _front(losses: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Say which rows no other row dominates, shape (n,); one pass per front member."""
    best = np.ones(len(losses), dtype=bool)
    for row in np.argsort(losses.sum(axis=1), kind="stable"):
        if best[row]:
            worse = np.all(losses >= losses[row], axis=1) & np.any(losses > losses[row], axis=1)
            best &= ~worse
    return best


def _key(params: Mapping[str, Any]) -> str:
    return repr(sorted(params.items()))


@SAMPLERS.register("evolution")
def evolution(seed: int) -> BaseSampler:
    """Evolution of the front by mutations and means, as for length-adaptive transformers."""
    return EvolutionSampler(seed)

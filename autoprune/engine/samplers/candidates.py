"""Draws points of a search space: at random, and near points that did well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

Params = dict[str, Any]
_CHANGE = 0.3  # chance that a mutation touches a parameter
_STEP = 0.15  # standard deviation of a step, as a share of the range


def draw(space: Mapping[str, BaseDistribution], count: int, rng: np.random.Generator) -> list[Params]:
    """Return ``count`` independent uniform points."""
    columns = {name: _uniform(distribution, count, rng) for name, distribution in space.items()}
    return [{name: column[i] for name, column in columns.items()} for i in range(count)]


def mutate(
    space: Mapping[str, BaseDistribution], parents: Sequence[Mapping[str, Any]], count: int, rng: np.random.Generator
) -> list[Params]:
    """Return ``count`` points, each a parent with some parameters changed a little.

    Every point differs from its parent in at least one parameter that can change.
    """
    names = list(space)
    chosen = rng.integers(0, len(parents), count)
    touched = rng.random((count, len(names))) < _CHANGE
    touched[np.arange(count), rng.integers(0, len(names), count)] = True
    points = []
    for row, parent in zip(touched, chosen, strict=True):
        point = {name: parents[parent].get(name) for name in names}
        for name in (name for name, touch in zip(names, row, strict=True) if touch or point[name] is None):
            point[name] = _near(space[name], point[name], rng)
        points.append(point)
    return points


def _uniform(distribution: BaseDistribution, count: int, rng: np.random.Generator) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return [distribution.choices[i] for i in rng.integers(0, len(distribution.choices), count).tolist()]
    if isinstance(distribution, IntDistribution):
        values = rng.integers(0, (distribution.high - distribution.low) // distribution.step + 1, count)
        return [int(distribution.low + value * distribution.step) for value in values]
    if isinstance(distribution, FloatDistribution):
        return [float(value) for value in rng.uniform(distribution.low, distribution.high, count)]
    raise TypeError(f"There is no way to draw from {distribution!r}.")


def _near(distribution: BaseDistribution, value: Any, rng: np.random.Generator) -> Any:
    if value is None or isinstance(distribution, CategoricalDistribution):
        return _uniform(distribution, 1, rng)[0]
    if isinstance(distribution, IntDistribution):
        step = (-1, 1)[rng.integers(0, 2)] * int(rng.integers(1, 3)) * distribution.step
        return int(min(max(value + step, distribution.low), distribution.high))
    if isinstance(distribution, FloatDistribution):
        moved = value + rng.normal() * _STEP * (distribution.high - distribution.low)
        return float(min(max(moved, distribution.low), distribution.high))
    return value

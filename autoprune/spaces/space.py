"""A search space for one model: Optuna distributions, and shapes decoded from their values.

A *shape* is a policy up to its scale: which stages there are and how the reduction is divided
among them. The keeps of a shape at scale t are ``exp(-t * w)`` with w the cumulative weights, so
that t = 0 is dense and every larger t removes more; the scale is solved from the budget.
The encoding has the same parameters for every point (none depends on another), so that samplers
that model parameters jointly see all trials.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from autoprune.policy import Layer, PruningPolicy, Stage
from autoprune.spaces.schema import ScorerChoice, SpaceFile

NONE = "none"
_DIGITS = 4  # keeps are rounded, so that policies that differ by nothing have one digest


@dataclass(frozen=True)
class ShapeStage:
    """One stage of a shape: where, how, and the cumulative share of the reduction."""

    layer: Layer
    choice: ScorerChoice
    weight: float
    reduce: str = "drop"


@dataclass(frozen=True)
class Shape:
    """A policy up to its scale.

    Attributes:
        stages: In order; weights are cumulative, do not decrease, and end at 1.
        last_layer: As in the policy.
    """

    stages: tuple[ShapeStage, ...]
    last_layer: Literal["full", "first_token"]

    def policy(self, scale: float, tables: Mapping[str, str]) -> PruningPolicy:
        """Return the policy at a scale.

        Args:
            scale: t >= 0; the last stage keeps ``exp(-t)`` of the input.
            tables: Table digest (``sha256:...``) by the scorer that needs it.
        """
        stages = []
        for stage in self.stages:
            params = dict(stage.choice.params)
            if stage.choice.scorer in tables:
                params["table"] = tables[stage.choice.scorer]
            keep = max(round(math.exp(-scale * stage.weight), _DIGITS), 10**-_DIGITS)
            stages.append(Stage(stage.layer, stage.choice.scorer, keep=keep, reduce=stage.reduce, params=params))
        return PruningPolicy(tuple(stages), last_layer=self.last_layer)


class Space:
    """A space file bound to a model's depth.

    Args:
        file: The space.
        n_layers: Layers of the model (>= 1).
    """

    def __init__(self, file: SpaceFile, n_layers: int) -> None:
        self.file = file
        self.n_layers = n_layers
        self._input = {choice.label: choice for choice in file.input.scorers}
        self._inside = {choice.label: choice for choice in file.stages.scorers} if file.stages else {}

    def scorers(self) -> set[str]:
        """Return the names of all scorers that the space can propose."""
        return {choice.scorer for choice in (*self._input.values(), *self._inside.values())}

    def reducers(self) -> set[str]:
        """Return the names of all reducers that the space can propose."""
        return {"drop", *(self.file.stages.reduce if self.file.stages else ())}

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return the Optuna distribution of every parameter; none is conditional."""
        first, last = self._layer_bounds()
        out: dict[str, BaseDistribution] = {
            "last_layer": CategoricalDistribution(self.file.last_layer),
            "share": FloatDistribution(*self.file.share),
        }
        if self._input:
            out["input.scorer"] = CategoricalDistribution([NONE, *self._input])
            out["input.weight"] = FloatDistribution(0.0, 1.0)
        if self.file.stages and first <= last:
            low, high = self.file.stages.count
            out["stages.scorer"] = CategoricalDistribution(list(self._inside))
            out["stages.reduce"] = CategoricalDistribution(self.file.stages.reduce)
            out["stages.count"] = (
                IntDistribution(0, min(high, last - first + 1))
                if low == 0
                else IntDistribution(min(low, last - first + 1), min(high, last - first + 1))
            )
            out["stages.first"] = IntDistribution(first, last)
            out["stages.gap"] = IntDistribution(1, max(1, (last - first + 1) // 2))
            out["stages.curve"] = FloatDistribution(-1.5, 1.5)
        return out

    def dense_params(self) -> dict[str, Any]:
        """Return the values of every parameter at the point that prunes nothing."""
        values: dict[str, Any] = {}
        for name, distribution in self.distributions().items():
            if isinstance(distribution, CategoricalDistribution):
                values[name] = distribution.choices[0]
            elif isinstance(distribution, IntDistribution | FloatDistribution):
                values[name] = distribution.low
        values["share"] = self.file.share[1]
        if "full" in self.file.last_layer:
            values["last_layer"] = "full"
        return values

    def shape(self, params: Mapping[str, Any]) -> Shape:
        """Decode parameter values into a shape."""
        stages = [*self._inside_stages(params)]
        choice = self._input.get(params.get("input.scorer", NONE))
        if choice is None:
            return Shape(tuple(stages), params["last_layer"])
        share = float(params["input.weight"]) if stages else 1.0
        inside = [ShapeStage(s.layer, s.choice, share + (1 - share) * s.weight, s.reduce) for s in stages]
        return Shape((ShapeStage("input", choice, share), *inside), params["last_layer"])

    def _inside_stages(self, params: Mapping[str, Any]) -> list[ShapeStage]:
        count = int(params.get("stages.count", 0))
        if count == 0:
            return []
        _, last = self._layer_bounds()
        first, gap = int(params["stages.first"]), int(params["stages.gap"])
        layers = [layer for layer in range(first, first + count * gap, gap) if layer <= last]
        raw = [math.exp(float(params["stages.curve"]) * index) for index in range(len(layers))]
        total, running, stages = sum(raw), 0.0, []
        for layer, part in zip(layers, raw, strict=True):
            running += part / total
            choice = self._inside[params["stages.scorer"]]
            stages.append(ShapeStage(layer, choice, min(running, 1.0), params["stages.reduce"]))
        return stages

    def _layer_bounds(self) -> tuple[int, int]:
        if self.file.stages is None:
            return (1, 0)
        first, last = self.file.stages.layers
        return first, min(last if last >= 0 else self.n_layers + last, self.n_layers - 1)

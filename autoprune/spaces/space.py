"""A search space for one model: Optuna distributions, shapes decoded from their values, and back.

The encoding has the same parameters for every point (none depends on another), so that samplers that
model parameters jointly see all trials. Only what can vary is a parameter. Of the values that decode
into one shape, ``encode`` gives one: parameters that do not matter there take fixed values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from autoprune.policy import Layer, Protect, Selector
from autoprune.spaces.choices import ReducerChoice, ScorerChoice
from autoprune.spaces.inside import Inside
from autoprune.spaces.schema import SpaceFile
from autoprune.spaces.shape import Shape, ShapeStage, Where

__all__ = ["NONE", "Shape", "ShapeStage", "Space"]

NONE = "none"
_WEIGHT = (0.01, 0.99)  # beyond, either the input stage or those behind it remove next to nothing
_SAME = 1e-6  # weights that differ by less are equal: that is what rounding may do
_ROUNDING = 1e-12


class Space:
    """A space file bound to a model's depth.

    Args:
        file: The space.
        n_layers: Layers of the model (>= 1).
    """

    def __init__(self, file: SpaceFile, n_layers: int) -> None:
        self.file = file
        self.n_layers = n_layers
        self.protect: Protect = file.protect.protect()
        self._input = {choice.label: choice for choice in file.input.scorers}
        self._inside = Inside(file.stages, n_layers, shortcut="first_token" in file.last_layer)
        dimensions = self._dimensions()
        self._rest = {name: _resting(distribution) for name, distribution in dimensions.items()}
        self._searched = {n: d for n, d in dimensions.items() if n == "share" or not d.single()}

    def scorers(self) -> set[str]:
        """Return the names of all scorers that the space can propose."""
        return {choice.scorer for choice in (*self._input.values(), *self._inside.scorers)}

    def scorer_choices(self) -> list[ScorerChoice]:
        """Return all scorers that the space can propose, with their parameters, none twice."""
        return list({choice.label: choice for choice in (*self._input.values(), *self._inside.scorers)}.values())

    def reducer_choices(self) -> list[ReducerChoice]:
        """Return all reducers that the space can propose, with their parameters, none twice."""
        return list(
            {choice.label: choice for choice in (ReducerChoice(reduce="drop"), *self._inside.reducers)}.values()
        )

    def selectors(self) -> set[Selector]:
        """Return all selectors that the space can propose."""
        return {*(self.file.input.select if self._input else []), *self._inside.selectors}

    def places(self) -> Iterator[tuple[Layer, Where, ScorerChoice]]:
        """Yield where the space can propose a stage and by which scorer, the input first."""
        for choice in self._input.values():
            yield "input", "before", choice
        for layer, where in self._inside.places():
            for choice in self._inside.scorers:
                yield layer, where, choice

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return the Optuna distribution of every parameter; none is conditional."""
        return dict(self._searched)

    def dense_params(self) -> dict[str, Any]:
        """Return the values of every parameter at the point that prunes nothing, or least."""
        last = "full" if "full" in self.file.last_layer else self.file.last_layer[0]
        return self._complete({"last_layer": last, "share": self.file.share[1]})

    @property
    def layers(self) -> range:
        """The layers that stages inside may stand at; empty if there can be none."""
        return self._inside.layers

    def input_labels(self) -> list[str]:
        """Return the labels of the scorers at the input, as listed."""
        return list(self._input)

    def inside_labels(self) -> list[str]:
        """Return the labels of the scorers inside, as listed; none where no stage can stand."""
        return [choice.label for choice in self._inside.scorers] if self._inside else []

    def input_stage(self, scorer: str, weight: float = 1.0) -> ShapeStage:
        """Return the stage at the input with a scorer given by its label."""
        block = self.file.input
        return ShapeStage("input", self._input[scorer], weight, multiple=block.multiple[0], select=block.select[0])

    def stage(self, layer: int, scorer: str, weight: float, reduce: str | None = None) -> ShapeStage:
        """Return a stage inside; what is not given (reducer, place, rounding, selector) is what the space lists first.

        Args:
            layer: 0-based layer.
            scorer: Label of the scorer.
            weight: Cumulative share of the reduction, over 0 to 1.
            reduce: Label of the reducer.
        """
        return self._inside.stage(layer, scorer, weight, reduce)

    def shape(self, params: Mapping[str, Any]) -> Shape:
        """Decode parameter values into a shape; parameters that are not given rest."""
        values = {**self._rest, **params}
        stages, linear = self._inside.decode(values)
        choice = self._input.get(values.get("input.scorer", NONE))
        if choice is not None:
            first = float(values["input.weight"]) if stages else 1.0
            multiple, select = int(values["input.multiple"]), values["input.select"]
            stages = [
                ShapeStage("input", choice, first, multiple=multiple, select=select),
                *(_moved(stage, first + (1 - first) * stage.weight) for stage in stages),
            ]
        axes = tuple((axis.axis, values[f"axes.{axis.axis}"]) for axis in self.file.axes)
        return Shape(tuple(stages), values["last_layer"], linear, self.protect, axes)

    def encode(self, shape: Shape, share: float) -> dict[str, Any] | None:
        """Return the parameter values that decode into a shape.

        Args:
            shape: The shape. Protection is the space's own; an axis that the shape does not name takes its
                first value; where a reducer never asks its scorer, the scorer does not matter.
            share: Share of the budget to aim at; moved into the space's range.

        Returns:
            A value for every parameter of ``distributions``, or None if the space cannot express the shape.
        """
        if shape.last_layer not in self.file.last_layer or not _rises(shape):
            return None
        before = shape.stages[0] if shape.stages and shape.stages[0].layer == "input" else None
        inside = shape.stages[1:] if before else shape.stages
        low, high = self.file.share
        values: dict[str, Any] = {"last_layer": shape.last_layer, "share": min(max(float(share), low), high)}
        done = before.weight if before and inside else 0.0
        behind = [_moved(stage, (stage.weight - done) / (1 - done)) for stage in inside]
        for part in (
            self._encode_axes(shape),
            self._encode_input(before, done),
            self._inside.encode(behind, shape.linear),
        ):
            if part is None:
                return None
            values.update(part)
        return self._complete(values)

    def _encode_axes(self, shape: Shape) -> dict[str, Any] | None:
        listed = {choice.axis: choice.values for choice in self.file.axes}
        if any(value not in listed.get(name, ()) for name, value in shape.axes):
            return None
        return {f"axes.{name}": value for name, value in shape.axes}

    def _encode_input(self, stage: ShapeStage | None, weight: float) -> dict[str, Any] | None:
        """Return the input's values; the weight is 0 where no stage follows, and does not matter then."""
        if stage is None:
            return {}
        block = self.file.input
        listed = stage.multiple in block.multiple and stage.select in block.select
        plain = listed and (stage.reduce, stage.where) == ("drop", "before")
        if not plain or self._input.get(stage.choice.label) != stage.choice:
            return None
        values = {
            "input.scorer": stage.choice.label,
            "input.select": stage.select,
            "input.multiple": stage.multiple,
        }
        if not weight:
            return values
        low, high = _WEIGHT
        if not low - _SAME <= weight <= high + _SAME:
            return None
        return {**values, "input.weight": min(max(weight, low), high)}

    def _complete(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: values.get(name, self._rest[name]) for name in self._searched}

    def _dimensions(self) -> dict[str, BaseDistribution]:
        """Return the distribution of every parameter, those with one value included."""
        out: dict[str, BaseDistribution] = {
            "last_layer": CategoricalDistribution(self.file.last_layer),
            "share": FloatDistribution(*self.file.share),
        }
        if self._input:
            out["input.scorer"] = CategoricalDistribution([NONE, *self._input])
            out["input.select"] = CategoricalDistribution(self.file.input.select)
            out["input.multiple"] = CategoricalDistribution(self.file.input.multiple)
            if self._inside:
                out["input.weight"] = FloatDistribution(*_WEIGHT)
        out.update(self._inside.dimensions())
        for axis in self.file.axes:
            out[f"axes.{axis.axis}"] = CategoricalDistribution(axis.values)
        return out


def _rises(shape: Shape) -> bool:
    """Whether cumulative weights are what they must be: over 0, increasing, 1 at the end."""
    weights = [0.0, *(stage.weight for stage in shape.stages)]
    rising = all(later > earlier for earlier, later in pairwise(weights))
    return rising and (not shape.stages or abs(weights[-1] - 1) <= _SAME)


def _moved(stage: ShapeStage, weight: float) -> ShapeStage:
    """Return the stage with another weight; the last one's is 1 whatever rounding made of it."""
    return replace(stage, weight=1.0 if weight > 1 - _ROUNDING else weight)


def _resting(distribution: BaseDistribution) -> Any:
    """Return the value of a parameter where it does not matter."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0]
    if isinstance(distribution, IntDistribution):
        return distribution.low
    if not isinstance(distribution, FloatDistribution):
        raise TypeError(f"A space has no parameter of the kind {distribution!r}.")
    if distribution.low <= 0.0 <= distribution.high:
        return 0.0
    return (distribution.low + distribution.high) / 2

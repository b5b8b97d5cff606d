"""The stages inside the model: their parameters, decoded into stages of a shape and encoded from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from autoprune.policy import Selector
from autoprune.spaces.blocks import StagesBlock
from autoprune.spaces.choices import ReducerChoice, ScorerChoice, label_of
from autoprune.spaces.schedules import SCHEDULES, Room
from autoprune.spaces.shape import ShapeStage, Where


class _How(NamedTuple):
    """What all stages of a point have in common."""

    choice: ScorerChoice
    reducer: ReducerChoice
    where: Where
    multiple: int
    select: Selector

    def stage(self, layer: int, weight: float) -> ShapeStage:
        reducer = self.reducer
        return ShapeStage(
            layer, self.choice, weight, reducer.reduce, reducer.params, self.where, self.multiple, self.select
        )


class Inside:
    """The stages block bound to a model's depth.

    Args:
        block: The block; None has no stages.
        n_layers: Layers of the model (>= 1).
        shortcut: Whether the last layer may compute the first token alone; then nothing can leave after its attention.
    """

    def __init__(self, block: StagesBlock | None, n_layers: int, *, shortcut: bool) -> None:
        self._rooms: dict[Where, Room] = {}
        self._scorers: dict[str, ScorerChoice] = {}
        self._reducers: dict[str, ReducerChoice] = {}
        if block is None:
            return
        self._block = block
        for where in block.where:
            last = block.layers[1] + (n_layers if block.layers[1] < 0 else 0)
            last = min(last, n_layers - (2 if shortcut and where == "after_attention" else 1))
            room = Room(block.layers[0], last, block.count[1])
            if room.slots:
                self._rooms[where] = room
        self._scorers = {choice.label: choice for choice in block.scorers}
        self._reducers = {choice.label: choice for choice in block.reduce}

    def __bool__(self) -> bool:
        """Whether there can be a stage."""
        return bool(self._rooms)

    @property
    def scorers(self) -> list[ScorerChoice]:
        """The scorers, as listed."""
        return list(self._scorers.values())

    @property
    def reducers(self) -> list[ReducerChoice]:
        """The reducers, as listed."""
        return list(self._reducers.values())

    @property
    def layers(self) -> range:
        """The layers that stages of the first listed place may stand at."""
        room = next(iter(self._rooms.values()), None)
        return range(room.first, room.last + 1) if room else range(0)

    @property
    def selectors(self) -> list[Selector]:
        """The selectors, as listed; none where no stage can stand."""
        return self._block.select if self else []

    def places(self) -> Iterator[tuple[int, Where]]:
        """Yield every place at which a stage may stand."""
        for where, room in self._rooms.items():
            for layer in range(room.first, room.last + 1):
                yield layer, where

    def stage(self, layer: int, scorer: str, weight: float, reduce: str | None = None) -> ShapeStage:
        """Return a stage in which everything that is not given is what the space lists first.

        Args:
            layer: 0-based layer.
            scorer: Label of the scorer.
            weight: Cumulative share of the reduction.
            reduce: Label of the reducer.
        """
        reducer = self._reducers[reduce] if reduce is not None else self.reducers[0]
        block, where = self._block, next(iter(self._rooms))
        return _How(self._scorers[scorer], reducer, where, block.multiple[0], block.select[0]).stage(layer, weight)

    def dimensions(self) -> dict[str, BaseDistribution]:
        """Return the distribution of every parameter, those with one value included."""
        if not self:
            return {}
        block, widest = self._block, max(self._rooms.values(), key=lambda room: room.last)
        low, high = block.count
        out: dict[str, BaseDistribution] = {
            "stages.scorer": CategoricalDistribution(list(self._scorers)),
            "stages.reduce": CategoricalDistribution(list(self._reducers)),
            "stages.where": CategoricalDistribution(list(self._rooms)),
            "stages.select": CategoricalDistribution(block.select),
            "stages.multiple": CategoricalDistribution(block.multiple),
            "stages.count": IntDistribution(min(low, widest.slots), min(high, widest.slots)),
            "stages.first": IntDistribution(widest.first, widest.last),
        }
        if widest.slots > 1:
            out["stages.schedule"] = CategoricalDistribution(block.schedule)
            for name in block.schedule:
                out.update(SCHEDULES[name].distributions(widest))
        return out

    def decode(self, values: Mapping[str, Any]) -> tuple[list[ShapeStage], bool]:
        """Return the stages, weights ending at 1, and whether keeps fall linearly.

        Args:
            values: A value for every parameter of ``dimensions``.
        """
        if not self:
            return [], False
        where: Where = values["stages.where"]
        room = self._rooms[where]
        count = min(int(values["stages.count"]), room.slots)
        if count == 0:
            return [], False
        # A single stage knows no schedule.
        family = SCHEDULES[values["stages.schedule"] if count > 1 else self._block.schedule[0]]
        layers, weights = family.decode(values, count, room)
        reducer, select = self._reducers[values["stages.reduce"]], values["stages.select"]
        # Scores that nobody asks for are the first scorer's, so that one policy has one digest.
        choice = self._scorers[values["stages.scorer"]] if _asks(reducer, select) else self.scorers[0]
        how = _How(choice, reducer, where, int(values["stages.multiple"]), select)
        stages = [how.stage(layer, weight) for layer, weight in zip(layers, weights, strict=True)]
        return stages, family.linear and count > 1

    def encode(self, stages: Sequence[ShapeStage], linear: bool) -> dict[str, Any] | None:
        """Return the values of the parameters that matter, or None if the block has no such stages.

        Args:
            stages: With cumulative weights that end at 1.
            linear: Whether keeps fall linearly.
        """
        if not stages:
            return {} if not self or self._block.count[0] == 0 else None
        method = self._method(stages)
        if method is None:
            return None
        room = self._rooms[method["stages.where"]]
        layers = [stage.layer for stage in stages if isinstance(stage.layer, int)]
        count = max(len(stages), min(self._block.count[0], self._slots))
        if min(count, room.slots) != len(stages) or not self._in_order(layers, room):
            return None
        schedule = self._schedule(layers, [stage.weight for stage in stages], linear)
        return None if schedule is None else {**method, "stages.count": count, "stages.first": layers[0], **schedule}

    @property
    def _slots(self) -> int:
        return max((room.slots for room in self._rooms.values()), default=0)

    def _method(self, stages: Sequence[ShapeStage]) -> dict[str, Any] | None:
        """Return what all stages have in common, or None if they differ or the block does not list it."""
        first = stages[0]
        if any(_what(stage) != _what(first) for stage in stages):
            return None
        reducer = self._reducers.get(label_of(first.reduce, first.reduce_params))
        choice = self._scorers.get(first.choice.label)
        block = self._block
        listed = first.where in self._rooms and first.multiple in block.multiple and first.select in block.select
        if reducer is None or not listed:
            return None
        asks = _asks(reducer, first.select)
        if asks and choice != first.choice:
            return None
        scorer = first.choice if asks else self.scorers[0]
        return {
            "stages.scorer": scorer.label,
            "stages.reduce": reducer.label,
            "stages.where": first.where,
            "stages.select": first.select,
            "stages.multiple": first.multiple,
        }

    def _in_order(self, layers: Sequence[int], room: Room) -> bool:
        return list(layers) == sorted(set(layers)) and room.first <= layers[0] and layers[-1] <= room.last

    def _schedule(self, layers: Sequence[int], weights: Sequence[float], linear: bool) -> dict[str, Any] | None:
        """Return the values of the first listed family that has the schedule."""
        if len(layers) == 1:
            return None if linear else {}
        for name in self._block.schedule:
            family = SCHEDULES[name]
            values = family.encode(layers, weights) if family.linear == linear else None
            if values is not None:
                return {"stages.schedule": name, **values}
        return None


def _what(stage: ShapeStage) -> tuple[Any, ...]:
    return stage.choice, stage.reduce, dict(stage.reduce_params), stage.where, stage.multiple, stage.select


def _asks(reducer: ReducerChoice, select: Selector) -> bool:
    """Whether anybody asks the scorer: a threshold and a mass do, whatever happens to the rest."""
    return reducer.asks or select != "keep"

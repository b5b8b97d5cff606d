"""Schedule families: where the stages inside stand, and how the reduction is divided among them.

A family turns its parameters into layers and cumulative weights, and back. Decoding squeezes a
schedule that would run past the last layer until all its stages fit, so that every point has the
count of stages that it names; encoding gives the values that need no squeezing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal, Protocol

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

Name = Literal["geometric", "curved", "linear", "free"]
LOG_RATIO = 4.0
"""The log of one stage's part of the reduction over the first stage's is within this: from 1/55 to 55 times."""
_SAME = 1e-6  # logs of parts that differ by less are equal: that is what rounding may do


@dataclass(frozen=True)
class Room:
    """The layers that stages may stand at.

    Attributes:
        first: First layer.
        last: Last layer; below ``first`` there is no room.
        most: Stages that the space allows at most.
    """

    first: int
    last: int
    most: int

    @property
    def layers(self) -> int:
        """How many layers there are."""
        return max(0, self.last - self.first + 1)

    @property
    def slots(self) -> int:
        """How many stages fit."""
        return min(self.most, self.layers)


class Schedule(Protocol):
    """A family of schedules."""

    linear: ClassVar[bool]

    def distributions(self, room: Room) -> dict[str, BaseDistribution]:
        """Return the parameters beside the count and the first layer."""

    def decode(self, values: Mapping[str, Any], count: int, room: Room) -> tuple[list[int], list[float]]:
        """Return the layers and the cumulative weights of ``count`` stages, at most ``room.slots``."""

    def encode(self, layers: Sequence[int], weights: Sequence[float]) -> dict[str, Any] | None:
        """Return the values of the parameters that matter, or None if the family has no such schedule.

        Args:
            layers: Ascending, at least two.
            weights: Cumulative, increasing, the last one 1.
        """


class Even:
    """Evenly spaced stages with equal parts; base of the other evenly spaced families."""

    linear: ClassVar[bool] = False

    def distributions(self, room: Room) -> dict[str, BaseDistribution]:
        """Return the gap in layers, small ones more often than wide ones."""
        return {"stages.gap": _gap(room)} if room.slots > 1 else {}

    def decode(self, values: Mapping[str, Any], count: int, room: Room) -> tuple[list[int], list[float]]:
        """Return evenly spaced layers and the family's weights."""
        first = min(int(values["stages.first"]), room.last - count + 1)
        if count == 1:
            return [first], [1.0]
        gap = min(int(values["stages.gap"]), (room.last - first) // (count - 1))
        return [first + gap * index for index in range(count)], self._weights(values, count)

    def encode(self, layers: Sequence[int], weights: Sequence[float]) -> dict[str, Any] | None:
        """Return the gap and what the family adds, if the spacing is even and the weights are the family's."""
        gaps = {later - earlier for earlier, later in pairwise(layers)}
        values = self._values(parts(weights))
        if len(gaps) > 1 or values is None:
            return None
        return {"stages.gap": gaps.pop(), **values}

    def _weights(self, values: Mapping[str, Any], count: int) -> list[float]:
        return cumulative([0.0] * count)

    def _values(self, logs: Sequence[float]) -> dict[str, Any] | None:
        return {} if all(abs(log) <= _SAME for log in logs) else None


class Curved(Even):
    """Evenly spaced stages whose parts grow (or shrink) by a constant factor.

    ``stages.curve`` is the log of the last part over the first.
    """

    def distributions(self, room: Room) -> dict[str, BaseDistribution]:
        """Return gap and curve."""
        curve = {"stages.curve": FloatDistribution(-LOG_RATIO, LOG_RATIO)} if room.slots > 1 else {}
        return {**super().distributions(room), **curve}

    def _weights(self, values: Mapping[str, Any], count: int) -> list[float]:
        curve = float(values["stages.curve"])
        return cumulative([curve * index / (count - 1) for index in range(count)])

    def _values(self, logs: Sequence[float]) -> dict[str, Any] | None:
        curve = _within(logs[-1])
        if curve is None or any(abs(log - curve * i / (len(logs) - 1)) > _SAME for i, log in enumerate(logs)):
            return None
        return {"stages.curve": curve}


class Linear(Even):
    """Evenly spaced stages whose keeps fall by equal steps."""

    linear: ClassVar[bool] = True


class Free:
    """Any layers and any parts.

    Per stage after the first: its gap to the one before, and the log of its part over the first one's.
    """

    linear: ClassVar[bool] = False

    def distributions(self, room: Room) -> dict[str, BaseDistribution]:
        """Return gap and part of each further stage."""
        out: dict[str, BaseDistribution] = {}
        for slot in range(2, room.slots + 1):
            out[f"stages.gap.{slot}"] = _gap(room)
        for slot in range(2, room.slots + 1):
            out[f"stages.part.{slot}"] = FloatDistribution(-LOG_RATIO, LOG_RATIO)
        return out

    def decode(self, values: Mapping[str, Any], count: int, room: Room) -> tuple[list[int], list[float]]:
        """Return the layers, each early enough for those behind it, and the weights."""
        layers = [min(int(values["stages.first"]), room.last - count + 1)]
        for slot in range(2, count + 1):
            layers.append(min(layers[-1] + int(values[f"stages.gap.{slot}"]), room.last - count + slot))
        return layers, cumulative([0.0, *(float(values[f"stages.part.{slot}"]) for slot in range(2, count + 1))])

    def encode(self, layers: Sequence[int], weights: Sequence[float]) -> dict[str, Any] | None:
        """Return all gaps and parts, or None if a part is beyond ``LOG_RATIO``."""
        values: dict[str, Any] = {}
        for slot, (earlier, later) in enumerate(pairwise(layers), 2):
            values[f"stages.gap.{slot}"] = later - earlier
        for slot, log in enumerate(parts(weights)[1:], 2):
            part = _within(log)
            if part is None:
                return None
            values[f"stages.part.{slot}"] = part
        return values


SCHEDULES: Mapping[Name, Schedule] = {"geometric": Even(), "curved": Curved(), "linear": Linear(), "free": Free()}


def cumulative(logs: Sequence[float]) -> list[float]:
    """Return cumulative weights that end at 1, from the logs of the parts."""
    raw = [math.exp(log) for log in logs]
    total = math.fsum(raw)
    return [*(math.fsum(raw[:end]) / total for end in range(1, len(raw))), 1.0]


def parts(weights: Sequence[float]) -> list[float]:
    """Return the log of each stage's part over the first one's, from increasing cumulative weights over 0."""
    steps = [later - earlier for earlier, later in pairwise((0.0, *weights))]
    return [math.log(step / steps[0]) for step in steps]


def _gap(room: Room) -> IntDistribution:
    return IntDistribution(1, room.last - room.first, log=True)


def _within(log: float) -> float | None:
    """Return the value inside the bounds of its distribution, or None if rounding does not explain the excess."""
    if abs(log) > LOG_RATIO + _SAME:
        return None
    return min(max(log, -LOG_RATIO), LOG_RATIO)

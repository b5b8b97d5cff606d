"""The lattice: a finite set of policies, expanded from ``lattice.yaml``, and the one encoder that rounds to it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from autoprune.errors import ConfigError
from autoprune.policy import Layer, PruningPolicy, Stage

FILE = Path(__file__).with_name("lattice.yaml")
SPACE = Path(__file__).with_name("space.yaml")
_KNOWN = {"version", "model_layers", "places", "levels", "max_cuts_inside", "input", "inside", "last_layer", "examples"}
Keeps = tuple[float, ...]


@dataclass(frozen=True)
class Inside:
    """How tokens leave inside the model."""

    scorer: str
    reduce: str
    with_input: bool = True


@dataclass(frozen=True)
class Point:
    """A policy of the lattice: keep per place, and methods (None where no token leaves)."""

    keeps: Keeps
    before: str | None
    inside: Inside | None


class Lattice:
    """All policies of ``lattice.yaml``, in a fixed order.

    Args:
        spec: The parsed file.
        tables: Table digest (``sha256:...``) by the scorer that needs it.

    Attributes:
        points: What each policy is.
        policies: The policies, in the order of ``points``.
        index: Place in ``policies`` by digest.
    """

    def __init__(self, spec: Mapping[str, Any], tables: Mapping[str, str]) -> None:
        if set(spec) != _KNOWN or spec["version"] != 1:
            raise ConfigError(f"The lattice has other fields than expected: {sorted(set(spec) ^ _KNOWN)}.")
        self.places: tuple[Layer, ...] = tuple(spec["places"])
        self.levels: Keeps = tuple(float(level) for level in spec["levels"])
        self.n_layers, self.examples = int(spec["model_layers"]), int(spec["examples"])
        self.inputs: list[str] = list(spec["input"])
        self.insides = [Inside(**entry) for entry in spec["inside"]]
        self._most, self._last, self._tables = int(spec["max_cuts_inside"]), spec["last_layer"], dict(tables)
        self.points = list(self._points())
        self.policies = [self.policy(point) for point in self.points]
        self.index = {policy.digest(): number for number, policy in enumerate(self.policies)}
        self._vectors = list(dict.fromkeys(point.keeps for point in self.points))
        self._logs = np.log(np.asarray(self._vectors))
        self._found: dict[str, PruningPolicy] = {}

    @classmethod
    def read(cls, tables: Mapping[str, str], path: Path = FILE) -> Lattice:
        """Read the file and expand it."""
        return cls(yaml.safe_load(path.read_text()), tables)

    def _points(self) -> Iterator[Point]:
        for keeps in self._keeps():
            cuts = sum(a > b for a, b in zip(keeps, keeps[1:]))
            befores = self.inputs if keeps[0] < 1 else [None]
            insides = [one for one in self.insides if one.with_input or keeps[0] == 1] if cuts else [None]
            yield from (Point(keeps, before, inside) for before, inside in product(befores, insides))

    def _keeps(self) -> Iterator[Keeps]:
        for keeps in product(self.levels, repeat=len(self.places)):
            steps = [(a, b) for a, b in zip(keeps, keeps[1:]) if a != b]
            if len(steps) <= self._most and all(a > b for a, b in steps):
                yield keeps

    def policy(self, point: Point) -> PruningPolicy:
        """Return the policy of a point."""
        stages, previous = [], 1.0
        for place, keep in zip(self.places, point.keeps, strict=True):
            if keep < previous:
                stages.append(self._stage(place, keep, point))
            previous = keep
        return PruningPolicy(tuple(stages), last_layer=self._last)

    def _stage(self, place: Layer, keep: float, point: Point) -> Stage:
        if place == "input":
            assert point.before is not None
            table = {"table": self._tables[point.before]} if point.before in self._tables else {}
            return Stage("input", point.before, keep=keep, params=table)
        assert point.inside is not None
        return Stage(place, point.inside.scorer, keep=keep, reduce=point.inside.reduce)

    def nearest(self, keeps: Sequence[float], before: str | None, inside: tuple[str, str] | None) -> PruningPolicy:
        """Return the lattice's policy that is nearest to a keep vector and methods.

        Nearest in the sum over places of squared differences of log keep; then the listed method that
        differs in fewest parts (another scorer weighs more than another reducer). The first of equals.

        Args:
            keeps: Share of the text's tokens that enters each place, not increasing, over 0 to 1.
            before: Scorer at the input.
            inside: (scorer, reducer) inside.
        """
        gaps = np.sum((self._logs - np.log(np.asarray(keeps))) ** 2, axis=1)
        vector = self._vectors[int(np.argmin(gaps))]
        cut = any(a > b for a, b in zip(vector, vector[1:]))
        scorer = None if vector[0] == 1 else before if before in self.inputs else self.inputs[0]
        return self.policy(Point(vector, scorer, self._inside(inside, vector[0] < 1) if cut else None))

    def _inside(self, wanted: tuple[str, str] | None, with_input: bool) -> Inside:
        allowed = [one for one in self.insides if one.with_input or not with_input]
        if wanted is None:
            return allowed[0]
        return min(allowed, key=lambda one: 2 * (one.scorer != wanted[0]) + (one.reduce != wanted[1]))

    def snap(self, policy: PruningPolicy) -> PruningPolicy:
        """Return the lattice's policy that is nearest to any policy of ``keep`` stages."""
        key = policy.digest()
        if key not in self._found:
            inside = next((stage for stage in policy.stages if stage.layer != "input"), None)
            before = next((stage.scorer for stage in policy.stages if stage.layer == "input"), None)
            pair = None if inside is None else (inside.scorer, inside.reduce)
            self._found[key] = self.nearest(self.keeps_of(policy), before, pair)
        return self._found[key]

    def keeps_of(self, policy: PruningPolicy) -> Keeps:
        """Return the share of the tokens that enters each place."""
        keeps = dict.fromkeys(range(-1, self.n_layers + 1), 1.0)
        for stage in policy.stages:
            for place in range(sum(stage.depth), self.n_layers + 1):
                keeps[place] = 1.0 if stage.keep is None else stage.keep
        return tuple(keeps[-1 if place == "input" else int(place)] for place in self.places)

    def snap_removal(self, removal: np.ndarray) -> np.ndarray:
        """Round -log keep before each layer, shape (m, layers), to the nearest vectors of the lattice."""
        columns = [0 if place == "input" else int(place) for place in self.places]
        gaps = np.sum((self._logs[None] + removal[:, None, columns]) ** 2, axis=2)
        rounded = np.array(removal, dtype=np.float64)
        rounded[:, columns] = -self._logs[np.argmin(gaps, axis=1)]
        return rounded


def closed_form_count(levels: int, cuts: int, places: int, inputs: int, with_input: int, without: int) -> int:
    """Return how many policies a lattice has, counted without listing them.

    Args:
        levels: Levels, 1.0 included.
        cuts: Most cuts inside.
        places: Places inside.
        inputs: Methods at the input.
        with_input: Methods inside that may follow a stage at the input.
        without: Methods inside where there is none.
    """

    def inside(lower: int) -> int:
        return sum(math.comb(places, n) * math.comb(lower, n) for n in range(1, cuts + 1))

    alone = 1 + without * inside(levels - 1)
    return alone + sum(inputs * (1 + with_input * inside(lower)) for lower in range(levels - 1))

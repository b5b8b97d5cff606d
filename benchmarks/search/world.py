"""What a searcher searches here: policies whose results are known before they are asked for.

``Recorded`` is the real thing, the committed recording of the lattice; ``simulator.Simulated`` is the analytic one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from lattice import SPACE, Lattice
from numpy.typing import NDArray

from autoprune.evaluate.pools.replay import load_recording
from autoprune.evaluate.quality import Logits
from autoprune.front.hypervolume import hypervolume
from autoprune.front.pareto import non_dominated
from autoprune.latency.cost_table import CostTable
from autoprune.policy import PruningPolicy
from autoprune.spaces.schema import load_space_file
from autoprune.spaces.space import Space

HERE = Path(__file__).parent
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Truth:
    """The best that any searcher can find: the front's points, fastest first.

    Attributes:
        ratio: Latency / dense.
        score: True score.
        chance: The score of guessing, the reference of the hypervolume; the other reference is dense latency.
    """

    ratio: Floats
    score: Floats
    chance: float

    def volume(self, ratio: Sequence[float] | Floats, score: Sequence[float] | Floats) -> float:
        """Return the hypervolume of points as a share of the true front's."""
        return self._volume(ratio, score) / self._whole

    @cached_property
    def _whole(self) -> float:
        return self._volume(self.ratio, self.score)

    def _volume(self, ratio: Any, score: Any) -> float:
        return hypervolume(ratio, score, latency_reference=1.0, score_reference=self.chance)

    def best(self, budget: float) -> float:
        """Return the best true score within a budget (share of dense)."""
        return float(self.score[self.ratio <= budget].max())


class World(Protocol):
    """A task, a machine and a space of policies.

    Attributes:
        name: For tables.
        space: What the product's searchers search.
        table: The cost table that searchers know.
        tables: Table digest by the scorer that needs it.
        lengths: Tokens of each timed input.
        n_protected: Tokens that never leave.
        floor_ratio: The lowest latency / dense of any policy.
        dense: Logits of dense, shape (n, classes).
        labels: Shape (n,).
        truth: What could be found.
        places: How many places a keep vector has.
        low: The lowest keep of a free vector.
        inputs: Scorers at the input.
        insides: (scorer, reducer) inside.
    """

    name: str
    space: Space
    table: CostTable
    tables: Mapping[str, str]
    lengths: tuple[int, ...]
    n_protected: int
    floor_ratio: float
    dense: Logits
    labels: NDArray[np.int64]
    places: int
    low: float
    inputs: list[str]
    insides: list[tuple[str, str]]

    @property
    def truth(self) -> Truth: ...

    def policy(self, keeps: Sequence[float], before: str | None, inside: tuple[str, str] | None) -> PruningPolicy:
        """Return the policy of a keep vector and methods."""
        ...

    def snap(self, policy: PruningPolicy) -> PruningPolicy:
        """Return the policy that can be evaluated in a policy's stead."""
        ...

    def snap_removal(self, removal: Floats) -> Floats:
        """Round -log keep before each layer, shape (m, layers), likewise."""
        ...

    def logits(self, policy: PruningPolicy) -> Logits:
        """Return a policy's logits on all examples."""
        ...

    def latency(self, policy: PruningPolicy) -> float:
        """Return what timing finds: latency / dense."""
        ...

    def cost(self, policy: PruningPolicy) -> float:
        """Return predicted latency / dense: what an evaluation is charged per example."""
        ...

    def true_score(self, policy: PruningPolicy) -> float:
        """Return the score without sampling noise."""
        ...


@dataclass
class Recorded:
    """The lattice with its recording.

    Attributes:
        lattice: The policies.
        facts: ``recording.json``.
    """

    lattice: Lattice
    facts: Mapping[str, Any]
    recorded: Mapping[str, Logits]
    name: str = "quickstart lattice"
    low: float = 0.2
    space: Space = field(init=False)

    def __post_init__(self) -> None:
        self.space = Space(load_space_file(str(SPACE)), self.lattice.n_layers)
        self.table = CostTable.from_dict(self.facts["probe"]["cost_table"])
        self.tables = {"lexicon": self.facts["lexicon"]}
        self.lengths = tuple(self.facts["lengths"])
        self.n_protected = int(self.facts["n_protected"])
        self.dense = self.recorded[PruningPolicy().digest()]
        self.labels = np.asarray(self.facts["labels"], dtype=np.int64)
        self.places = len(self.lattice.places)
        self.low = min(self.lattice.levels)
        self.inputs = self.lattice.inputs
        self.insides = [(one.scorer, one.reduce) for one in self.lattice.insides]
        self._ratio = dict(self.facts["predicted"])
        self.floor_ratio = min(self._ratio.values())

    @classmethod
    def read(cls, folder: Path = HERE) -> Recorded:
        """Read the committed recording."""
        facts = json.loads((folder / "recording.json").read_text())
        lattice = Lattice.read({"lexicon": facts["lexicon"]})
        return cls(lattice, facts, load_recording(folder / "recording.npz"))

    @cached_property
    def truth(self) -> Truth:
        """The front of all recorded policies, scored on all recorded texts."""
        ratio = np.asarray([self.latency(policy) for policy in self.lattice.policies])
        score = np.asarray([self.true_score(policy) for policy in self.lattice.policies])
        front = sorted(non_dominated(ratio, score), key=lambda i: float(ratio[i]))
        chance = float(np.bincount(self.labels).max() / len(self.labels))
        return Truth(ratio[front], score[front], chance)

    def policy(self, keeps: Sequence[float], before: str | None, inside: tuple[str, str] | None) -> PruningPolicy:
        return self.lattice.nearest(keeps, before, inside)

    def snap(self, policy: PruningPolicy) -> PruningPolicy:
        return self.lattice.snap(policy)

    def snap_removal(self, removal: Floats) -> Floats:
        return self.lattice.snap_removal(removal)

    def logits(self, policy: PruningPolicy) -> Logits:
        return self.recorded[policy.digest()]

    def latency(self, policy: PruningPolicy) -> float:
        return 1.0 if policy.is_dense else float(self._ratio[policy.digest()])

    def cost(self, policy: PruningPolicy) -> float:
        return self.latency(policy)

    def true_score(self, policy: PruningPolicy) -> float:
        return float(np.mean(self.logits(policy).argmax(axis=1) == self.labels))

"""A made-up task whose evaluations and timings cost nothing, under the real loop of a search.

What the made-up parts spend is measured and taken off, so that what is left is the driver's own time.
"""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna

from autoprune._registry import SAMPLERS
from autoprune.engine.checking import Extras
from autoprune.engine.drift import DenseWatch
from autoprune.engine.events import Observer
from autoprune.engine.guiding import first_proposals, guide_sampler, make_guide
from autoprune.engine.interrupt import Interrupt
from autoprune.engine.landscape.harm import HarmModel
from autoprune.engine.projection import Projector
from autoprune.engine.proposals import Proposer, describe, tell_values
from autoprune.engine.record import Recorder
from autoprune.engine.run import Limits, SearchRun
from autoprune.engine.scoreboard import Scoreboard
from autoprune.evaluate.pool import Pool
from autoprune.evaluate.quality import Logits
from autoprune.latency.cost_table import CostTable
from autoprune.latency.stats import LatencyStats
from autoprune.latency.timing import PairedTiming
from autoprune.policy import PruningPolicy
from autoprune.spaces.schema import load_space_file
from autoprune.spaces.space import Space
from autoprune.store.optuna_study import DIRECTIONS, open_optuna_study
from autoprune.store.repository import Store
from autoprune.tasks.metrics import metric_for
from autoprune.testing.studies import study_record

DENSE_MS, LIMIT_MS, FLOOR_MS, LAYERS = 50.0, 25.0, 5.0, 6
EXAMPLES, CLASSES = 1000, 16
STUDY = "driver"


@dataclass
class Stopwatch:
    """Adds up what the made-up parts spend in the driver's thread, and gives a clock that stands still meanwhile."""

    spent: float = 0.0
    _since: float = 0.0

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._since = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        if threading.current_thread() is threading.main_thread():
            self.spent += time.perf_counter() - self._since

    def now(self) -> float:
        return time.perf_counter() - self.spent


class MadeUpLogits(Mapping[str, Logits]):
    """Logits of any policy: dense ones with noise that grows with the tokens that are removed."""

    def __init__(self, watch: Stopwatch, examples: int = EXAMPLES) -> None:
        rng = np.random.default_rng(0)
        self.dense = (rng.normal(size=(examples, CLASSES)) * 3).astype(np.float32)
        self.noise = rng.normal(size=(64, examples, CLASSES)).astype(np.float32)
        self.left: dict[str, float] = {}
        self._watch = watch

    def __getitem__(self, digest: str) -> Logits:
        with self._watch:
            seed = int(digest[:12], 16)
            strength = 4.0 * (1.0 - self.left[digest]) ** 2 * (0.7 + 0.6 * (seed % 1009) / 1009)
            logits: Logits = self.dense + np.float32(strength) * self.noise[seed % 64]
            return logits

    def __iter__(self) -> Iterator[str]:
        return iter(self.left)

    def __len__(self) -> int:
        return len(self.left)


class Listed:
    """A recorder's wrapper that notes how much each policy keeps before its evaluation is looked up."""

    def __init__(self, inner: Any, logits: MadeUpLogits) -> None:
        self._inner, self._logits = inner, logits

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def policy(self, policy: PruningPolicy) -> None:
        counts = policy.layer_counts(256, LAYERS, 2)
        self._logits.left[policy.digest()] = sum(counts) / (256 * LAYERS)
        self._inner.policy(policy)


class NoStore:
    """Keeps nothing: a search without storage."""

    study = STUDY

    def policy(self, policy: PruningPolicy) -> None:
        pass

    def evaluation(self, *_: Any, **__: Any) -> None:
        pass

    def measurement(self, *_: Any, **__: Any) -> None:
        pass


@dataclass
class MadeUpTimer:
    """Samples around the share of tokens that a policy keeps; 20 rounds of 9 inputs, as the real meter takes."""

    logits: MadeUpLogits
    watch: Stopwatch
    timed: int = 0
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(1))

    def measure_together(self, policies: Sequence[PruningPolicy]) -> list[PairedTiming]:
        with self.watch:
            return [self._timing(policy) for policy in policies]

    def _timing(self, policy: PruningPolicy) -> PairedTiming:
        self.timed += 1
        noise = self.rng.lognormal(0.0, 0.02, (2, 20, 9)) * DENSE_MS * 1e6
        ratio = 0.06 + 0.94 * self.logits.left[policy.digest()]
        return PairedTiming(dense_ns=noise[0].astype(np.int64), policy_ns=(noise[1] * ratio).astype(np.int64))

    def extras(self, policy: PruningPolicy) -> Extras:
        """Return nothing: what is counted here is made up."""
        return Extras(None, 0.0)


def build(
    pool: Pool, logits: MadeUpLogits, watch: Stopwatch, sampler: str, trials: int, store: Store | None
) -> SearchRun:
    """Return a search over the space ``quick``, put together as ``explore`` does, dense told already."""
    space = Space(load_space_file("quick"), LAYERS)
    table = CostTable(
        tokens=(8, 256), layers_ms=((0.5, 8.0),) * LAYERS, around_ms=(0.5, 2.0), first_token=((8, 0.4), (256, 4.0))
    )
    projector = Projector(table, (256,) * 9, 2, "p50", {"lexicon": "sha256:" + "0" * 64}, DENSE_MS)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if store is None:
        study = optuna.create_study(directions=DIRECTIONS)
    else:
        store.create_study(study_record(STUDY, LIMIT_MS))
        study = open_optuna_study(store, STUDY)
    study.sampler = SAMPLERS.get(sampler)(0)
    recorder = Listed(NoStore() if store is None else Recorder(store, STUDY), logits)
    study.enqueue_trial(space.dense_params())
    dense = study.ask(space.distributions())
    recorder.policy(PruningPolicy())
    describe(dense, PruningPolicy())
    tell_values(study, dense, DENSE_MS, 1.0, DENSE_MS - LIMIT_MS)
    guide = make_guide(space, projector, LIMIT_MS, FLOOR_MS, HarmModel({}), trials)
    guide_sampler(study, guide)
    for start in first_proposals(study, guide):
        start.enqueue(study)
    task: Any = SimpleNamespace(
        labels=logits.dense.argmax(1).astype(np.int64), metric=metric_for("accuracy", labelled=True)
    )
    return SearchRun(
        study=study,
        proposer=Proposer(study, guide),
        pool=pool,
        timer=MadeUpTimer(logits, watch),  # type: ignore[arg-type]
        scoreboard=Scoreboard(task, logits.dense),
        recorder=recorder,  # type: ignore[arg-type]
        watch=DenseWatch.of(LatencyStats(DENSE_MS, 55.0, 56.0, 51.0, 1.0)),
        limits=Limits(trials, LIMIT_MS / DENSE_MS, "p50", {"p50": DENSE_MS, "p95": 55.0, "mean": 51.0}),
        observer=Observer(),
        interrupt=Interrupt(),
    )

"""The searchers: autoprune's own loop with any of its samplers, and plain Optuna on the free vector."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
from account import Account, AccountedPool
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.storages import BaseStorage
from optuna.trial import TrialState
from world import World

from autoprune._registry import SAMPLERS
from autoprune.engine.checking import Extras
from autoprune.engine.drift import DenseWatch
from autoprune.engine.events import Observer
from autoprune.engine.guiding import first_proposals, guide_sampler, make_guide
from autoprune.engine.interrupt import Interrupt
from autoprune.engine.landscape.harm import HarmModel
from autoprune.engine.profiling import profile_policies, run_profile
from autoprune.engine.projection import Projector
from autoprune.engine.proposals import DIGEST_ATTR, WHY_ATTR, Proposer, describe, tell_values
from autoprune.engine.run import Limits, SearchRun
from autoprune.engine.samplers.autoprune import AutopruneSampler
from autoprune.engine.scoreboard import Scoreboard
from autoprune.evaluate.quality import Quality
from autoprune.latency.stats import LatencyStats
from autoprune.latency.timing import PairedTiming
from autoprune.policy import PruningPolicy

_DENSE = PruningPolicy()
_DENSE_NS = 1_000_000_000
_MOST = 100_000  # trials; the account ends a search, not their number
_DIRECTIONS = ["minimize", "maximize"]


class QuickScoreboard(Scoreboard):
    """The scoreboard without the bootstrap of the drop, which nobody reads here and which takes most of the time."""

    def quality(self, digest: str) -> Quality:
        """Return the policy's quality so far; the drop's interval is not a number."""
        logits = self._logits[digest]
        labels = np.asarray(self._task.labels)[: len(logits)]
        right, dense = logits.argmax(axis=1) == labels, self.dense[: len(logits)].argmax(axis=1) == labels
        score, dense_score = float(right.mean()), float(dense.mean())
        nothing = (float("nan"), float("nan"))
        agreement = float((logits.argmax(axis=1) == self.dense[: len(logits)].argmax(axis=1)).mean())
        kl = float(self.kl_of(logits).mean())
        return Quality(len(logits), score, dense_score, dense_score - score, nothing, agreement, kl)


@dataclass
class TableTimer:
    """Finds the latency that the world knows, without noise."""

    world: World

    def measure_together(self, policies: Sequence[PruningPolicy]) -> list[PairedTiming]:
        """Return a timing of exactly its ratio for each policy."""
        return [self._timing(policy) for policy in policies]

    def _timing(self, policy: PruningPolicy) -> PairedTiming:
        ratio = self.world.latency(policy)
        dense = np.full((2, 1), _DENSE_NS)
        return PairedTiming(
            dense, np.full((2, 1), round(ratio * _DENSE_NS)), _intervals={("p50", 0.95): (ratio, ratio)}
        )

    def extras(self, policy: PruningPolicy) -> Extras:
        """Return nothing: what is counted here is made up."""
        return Extras(None, 0.0)


class NoRecorder:
    """Writes nothing."""

    study = "benchmark"

    def policy(self, policy: PruningPolicy) -> None: ...

    def evaluation(self, *args: Any, **more: Any) -> None: ...

    def measurement(self, *args: Any, **more: Any) -> None: ...


def product(
    world: World, sampler: str, seed: int, budget: float, limit: float, storage: BaseStorage | None = None
) -> Account:
    """Search as ``autoprune search --sampler`` does, on the product's space, with projection and rungs.

    Args:
        world: What is searched.
        sampler: Name of the sampler.
        seed: Its seed.
        budget: Share of dense.
        limit: Full-evaluation equivalents.
        storage: Optuna's; None: in memory, where refused proposals are told.
    """
    account, interrupt = Account(world, budget), Interrupt()
    pool = AccountedPool(account, limit, lambda: setattr(interrupt, "requested", True))
    dense_ms = world.table.predict_statistic(_DENSE, world.lengths, world.n_protected)
    limit_ms, floor_ms = budget * dense_ms, world.floor_ratio * dense_ms
    study = optuna.create_study(storage=storage, directions=_DIRECTIONS, sampler=SAMPLERS.get(sampler)(seed))
    account.charge_lexicon()
    account.charge("dense", len(world.labels), 1.0)
    task: Any = SimpleNamespace(labels=world.labels, metric=SimpleNamespace(score=None))
    scoreboard = QuickScoreboard(task, world.dense)
    _tell_dense(study, world, scoreboard, dense_ms, budget)
    projector = Projector(world.table, world.lengths, world.n_protected, "p50", world.tables, dense_ms)
    harm = _profile(world, pool, scoreboard) if isinstance(study.sampler, AutopruneSampler) else HarmModel({})
    guide = make_guide(world.space, projector, limit_ms, floor_ms, harm, _MOST)
    guide.snap = world.snap_removal
    guide_sampler(study, guide)
    for start in first_proposals(study, guide):
        start.enqueue(study)
    anchor = dict.fromkeys(("p50", "p95", "mean"), dense_ms)
    stats = LatencyStats.of_ns(np.full((2, 1), _DENSE_NS))
    run = SearchRun(
        study=study,
        proposer=Proposer(study, guide, world.snap),
        pool=pool,
        timer=TableTimer(world),  # type: ignore[arg-type]
        scoreboard=scoreboard,
        recorder=NoRecorder(),  # type: ignore[arg-type]
        watch=DenseWatch.of(stats),
        limits=Limits(_MOST, budget, "p50", anchor),
        observer=Observer(),
        interrupt=interrupt,
    )
    run.run()
    failed = [
        t.user_attrs[WHY_ATTR] for t in study.get_trials(states=(TrialState.FAIL,)) if DIGEST_ATTR in t.user_attrs
    ]
    if failed:
        raise RuntimeError(f"Nothing can fail in a replay, and {len(failed)} policies did: {failed[0]}")
    account.refused = dict(Counter(t.user_attrs[WHY_ATTR] for t in study.trials if _refused(t)))
    return account


def _refused(trial: optuna.trial.FrozenTrial) -> bool:
    return WHY_ATTR in trial.user_attrs and DIGEST_ATTR not in trial.user_attrs


def _tell_dense(study: optuna.Study, world: World, scoreboard: Scoreboard, dense_ms: float, budget: float) -> None:
    """Make dense trial 0, as ``engine.starting`` does."""
    study.enqueue_trial(world.space.dense_params())
    trial = study.ask(world.space.distributions())
    describe(trial, _DENSE)
    scoreboard.add(_DENSE.digest(), 0, world.dense)
    tell_values(study, trial, dense_ms, scoreboard.quality(_DENSE.digest()).score, (1.0 - budget) * dense_ms)


def _profile(world: World, pool: AccountedPool, scoreboard: Scoreboard) -> HarmModel:
    plan = {
        label: [(layer, world.snap(policy)) for layer, policy in probes]
        for label, probes in profile_policies(world.space, world.tables).items()
    }
    pool.purpose = "profile"
    harm = HarmModel.fit(run_profile(plan, world.space.n_layers, pool, scoreboard, Observer()))
    pool.purpose = "search"
    return harm


def plain(
    world: World, sampler: str, seed: int, budget: float, limit: float, *, sort: bool, constrain: bool
) -> Account:
    """Search as one would with Optuna alone: free vector, two objectives, every proposal scored on all examples.

    Args:
        world: What is searched.
        sampler: Name of the sampler.
        seed: Its seed.
        budget: Share of dense.
        limit: Full-evaluation equivalents.
        sort: Make the keeps non-increasing by sorting them; else by their running minimum.
        constrain: Tell the budget as a constraint.
    """
    account = Account(world, budget)
    account.charge_lexicon()
    study = optuna.create_study(directions=_DIRECTIONS, sampler=SAMPLERS.get(sampler)(seed))
    space = free_space(world)
    while account.spent < limit:
        trial = study.ask(space)
        policy = decode(world, trial.params, sort=sort)
        account.charge("search", len(world.labels), world.cost(policy))
        account.note(policy)
        found = account.found[-1]
        if constrain:
            trial.set_constraint("budget", found.ratio - budget)
        study.tell(trial, [found.ratio, found.seen])
    return account


def free_space(world: World) -> dict[str, BaseDistribution]:
    """Return one keep per place, a scorer at the input and a method inside; none depends on another."""
    inside = [f"{scorer} {reduce}" for scorer, reduce in world.insides]
    return {
        **{f"keep{place}": FloatDistribution(world.low, 1.0) for place in range(world.places)},
        "input": CategoricalDistribution(["none", *world.inputs]),
        "inside": CategoricalDistribution(["none", *inside]),
    }


def decode(world: World, params: dict[str, Any], *, sort: bool) -> PruningPolicy:
    """Return the policy of a point of the free vector; keeps without a method have no effect."""
    keeps = np.asarray([params[f"keep{place}"] for place in range(world.places)])
    before = None if params["input"] == "none" else params["input"]
    inside = None if params["inside"] == "none" else tuple(params["inside"].split())
    if before is None:
        keeps[0] = 1.0
    keeps = np.sort(keeps)[::-1] if sort else np.minimum.accumulate(keeps)
    if inside is None:
        keeps[1:] = keeps[0]
    return world.policy(keeps.tolist(), before, inside)  # type: ignore[arg-type]


def quiet() -> None:
    """Silence Optuna's log and its warnings on experimental samplers."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)

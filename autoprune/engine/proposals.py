"""Proposals: ask Optuna, decode a shape, project it onto the budget, skip what is known."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import optuna
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from autoprune.engine.projection import MAX_SCALE
from autoprune.policy import PruningPolicy
from autoprune.store.optuna_study import drop, keep, set_constraint

if TYPE_CHECKING:
    from autoprune.engine.landscape.guide import Guide
    from autoprune.spaces.space import Shape

POLICY_ATTR, DIGEST_ATTR, WHY_ATTR, KL_ATTR = "policy", "policy_digest", "why", "kl"
AIM_ATTR = "aim"
FIXED_ATTR = "fixed_params"  # Optuna's own, of a trial that was enqueued
_PATIENCE = 5  # fruitless proposals in a row after which shapes are drawn at random
_TRIES = 200  # fruitless proposals in a row after which the space counts as exhausted
_DENSE = PruningPolicy().digest()


@dataclass(frozen=True)
class Start:
    """What a search proposes before its sampler has a say.

    Attributes:
        params: A value for every parameter of the space, or for ``share`` alone: ``AutopruneSampler`` then chooses the
            others when the turn comes, by what it has learned until then.
        aim: Factor (> 0) on the share of the budget that is aimed at: above 1 the policy draws the front beyond the
            budget, below 1 its fast end.
    """

    params: dict[str, Any]
    aim: float = 1.0

    def enqueue(self, study: optuna.Study) -> None:
        """Let this be a trial once those that were enqueued before have begun, unless it waits already."""
        waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        if not any(self.params == t.system_attrs.get(FIXED_ATTR) and self.aim == _aim(t) for t in waiting):
            study.enqueue_trial(self.params, user_attrs={AIM_ATTR: self.aim} if self.aim != 1.0 else None)


@dataclass
class Proposal:
    """A policy to evaluate, tied to the trial that will be told.

    Attributes:
        trial: The running Optuna trial.
        policy: The policy.
        predicted_ms: Its predicted latency, of the budget's statistic.
        keeps: Share of the input that each stage is expected to leave.
        last_resort: Whether it is the fastest of a space in which nothing is predicted to meet the budget.
    """

    trial: optuna.Trial
    policy: PruningPolicy
    predicted_ms: float
    keeps: tuple[float, ...] = ()
    last_resort: bool = False
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        self.digest = self.policy.digest()


class Proposer:
    """Proposes policies that were not tried before in this study.

    Args:
        study: The Optuna study.
        guide: The space, its costs and the budget.
        snap: Rounds a policy to one that may be evaluated; None: all may.
    """

    def __init__(
        self, study: optuna.Study, guide: Guide, snap: Callable[[PruningPolicy], PruningPolicy] | None = None
    ) -> None:
        self._study, self._guide = study, guide
        self._space, self._projector = guide.space, guide.projector
        self._snap = snap
        self._known = known_digests(study)

    def next(self) -> Proposal | None:
        """Return the next new policy, or None when the space seems exhausted.

        Shapes that cannot meet their target and policies tried before leave no trace: samplers find as much
        without them (benchmarks/driver), and writing them costs as much as writing a policy. If nothing was tried
        yet and all shapes are too slow, it is the fastest of them: predictions err.
        """
        too_slow: list[tuple[Shape, dict[str, Any]]] = []
        for attempt in range(_TRIES):
            trial = self._ask(attempt)
            aim = self._guide.aims.pop(trial.number, _aim(trial))
            target = self._guide.target(float(trial.params["share"]), aim)
            shape = self._space.shape(trial.params)
            policy = self._begun(trial) or self._projector.fit(shape, target)
            if policy is None:
                too_slow += [(shape, trial.params)] if shape.stages else []
                self._refuse(trial, "no scale of this shape meets its target")
                continue
            proposal = self._proposal(trial, policy)
            if self._snap is not None and proposal.predicted_ms > max(1.0, aim) * self._guide.limit_ms:
                self._refuse(trial, "rounded, this policy is too slow")
                continue
            if proposal.digest in self._known:
                self._refuse(trial, "the same policy was tried before")
                continue
            if aim != _aim(trial):
                trial.set_user_attr(AIM_ATTR, aim)
            return self._accept(proposal)
        return None if self._known - {_DENSE} or not too_slow else self._fastest(too_slow)

    def observe(self, policy: PruningPolicy, measured_ms: float) -> None:
        """Learn from a measured latency."""
        self._projector.observe(policy, measured_ms)

    def _proposal(self, trial: optuna.Trial, policy: PruningPolicy, last_resort: bool = False) -> Proposal:
        if self._snap is not None:
            policy = self._snap(policy)
        keeps = self._projector.expected.keeps(policy)
        return Proposal(trial, policy, self._projector.predict(policy), keeps, last_resort)

    def _accept(self, proposal: Proposal) -> Proposal:
        """Write what will be tried, so that it outlives this process."""
        self._known.add(proposal.digest)
        describe(proposal.trial, proposal.policy)
        keep(proposal.trial)
        return proposal

    def _fastest(self, drawn: Sequence[tuple[Shape, dict[str, Any]]]) -> Proposal:
        """Return the policy that removes the most of the shape that is predicted to be the fastest."""
        times = [self._projector.predict_shape(shape, MAX_SCALE) for shape, _ in drawn]
        shape, params = drawn[times.index(min(times))]
        self._study.enqueue_trial(params)
        return self._accept(self._proposal(self._ask(0), self._projector.strongest(shape), last_resort=True))

    def _begun(self, trial: optuna.Trial) -> PruningPolicy | None:
        """Return the policy that an earlier sitting began, if that is what was asked for.

        Projected anew it would be another one: predictions have been corrected since.
        """
        stored = trial.user_attrs.get(POLICY_ATTR)
        return None if stored is None else PruningPolicy.from_dict(json.loads(stored))

    def _ask(self, attempt: int) -> optuna.Trial:
        own = self._study.sampler
        if attempt >= _PATIENCE:
            # A model that is sure of itself repeats what it knows; a random shape leads elsewhere.
            self._study.sampler = RandomSampler(seed=len(self._known) * _TRIES + attempt)
        try:
            return self._study.ask(self._space.distributions())
        finally:
            self._study.sampler = own

    def _refuse(self, trial: optuna.Trial, why: str) -> None:
        if drop(trial):
            return
        trial.set_user_attr(WHY_ATTR, why)
        self._study.tell(trial, state=TrialState.PRUNED)


def _aim(trial: optuna.Trial | optuna.trial.FrozenTrial) -> float:
    return float(trial.user_attrs.get(AIM_ATTR, 1.0))


def describe(trial: optuna.Trial, policy: PruningPolicy) -> None:
    """Write the policy beside the trial, so that any Optuna client can read it."""
    trial.set_user_attr(POLICY_ATTR, json.dumps(policy.to_dict(), sort_keys=True))
    trial.set_user_attr(DIGEST_ATTR, policy.digest())


def note_quality(trial: optuna.Trial, rungs: Sequence[tuple[int, float, float]]) -> None:
    """Write (examples, mean KL, standard error) of every rung beside the trial; samplers learn from it."""
    trial.set_user_attr(KL_ATTR, [list(rung) for rung in rungs])


def was_evaluated(trial: optuna.trial.FrozenTrial) -> bool:
    """Say whether a trial ended with its policy finished, stopped or failed.

    Refused proposals carry no policy; a trial that a dead driver left behind failed without a reason.
    """
    if DIGEST_ATTR not in trial.user_attrs:
        return False
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or (
        trial.state is TrialState.FAIL and WHY_ATTR in trial.user_attrs
    )


def known_digests(study: optuna.Study) -> set[str]:
    """Return the digests of all policies that need not be evaluated again."""
    return {t.user_attrs[DIGEST_ATTR] for t in study.get_trials(deepcopy=False) if was_evaluated(t)}


def tell_values(study: optuna.Study, trial: optuna.Trial, latency_ms: float, score: float, excess_ms: float) -> None:
    """Tell a finished trial: both objectives and the budget as a constraint."""
    set_constraint(trial, excess_ms)
    study.tell(trial, [latency_ms, score])

"""What the model-based sampler remembers of a study's trials, read once each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from autoprune.engine.landscape.removal import Floats, Method, method_of
from autoprune.engine.proposals import DIGEST_ATTR, KL_ATTR, POLICY_ATTR
from autoprune.front.pareto import non_dominated
from autoprune.policy import PruningPolicy

if TYPE_CHECKING:
    import optuna

    from autoprune.engine.landscape.guide import Guide

MOST = 100  # policies that the memory falls back to when it holds twice as many
_TINY = 1e-6
_SHARED = 0.3  # share of the sampling variance that is not common to all policies on the same examples


@dataclass
class Seen:
    """A policy of the study.

    Attributes:
        number: Trial number.
        params: Its parameters.
        removal: Shape (layers,).
        method: How it prunes.
        key: What tells it from other policies, see ``Candidates``.
        rungs: Examples -> (mean KL, standard error), as far as it was scored.
        latency_ms: Measured latency, or the predicted one until it is timed.
    """

    number: int
    params: dict[str, Any]
    removal: Floats
    method: Method
    key: tuple[Any, ...]
    rungs: dict[int, tuple[float, float]]
    latency_ms: float


class Memory:
    """Policies of one study; finished trials are read once, running ones anew each time.

    Attributes:
        done: Scored policies; of many, the best and the latest.
        log_kl: Of them, as ``targets`` says, shape (n,).
        noise: Its variance, shape (n,).
        pending: Policies that are being scored.
        keys: Keys of all policies ever seen, see ``Candidates``.
        front: Latency in ms and score of the timed policies, dense too, that no other beats; the fastest first.
    """

    def __init__(self) -> None:
        self.done: list[Seen] = []
        self.log_kl, self.noise = np.zeros(0), np.zeros(0)
        self.pending: list[Seen] = []
        self.keys: set[tuple[Any, ...]] = set()
        self.front: list[tuple[float, float]] = []
        self.count = 0
        self._open: set[int] = set()
        self._next = 0

    def refresh(self, study: optuna.Study, guide: Guide) -> None:
        """Read what is new."""
        trials = study._storage.get_all_trials(study._study_id, deepcopy=False)
        # The last of the open ones may have been dropped (store/drafts.py); its number is then free or another's.
        numbers = [*(n for n in sorted(self._open) if n < len(trials)), *range(self._next, len(trials))]
        self._next, self._open, self.pending, known = len(trials), set(), [], self.count
        for number in numbers:
            if not trials[number].state.is_finished():
                self._open.add(number)
            if DIGEST_ATTR in trials[number].user_attrs:
                self._keep(trials[number], guide)
        if len(self.done) > 2 * MOST:
            self.done = _best_and_latest(self.done)
        if self.count > known:
            self.log_kl, self.noise = targets(self.done)

    def _keep(self, trial: FrozenTrial, guide: Guide) -> None:
        seen = _read(trial, guide)
        self.keys.add(seen.key)
        if not trial.state.is_finished():
            self.pending.append(seen)
            return
        if trial.state is TrialState.COMPLETE:
            self._note(trial.values[0], trial.values[1])
        if seen.rungs and seen.removal[-1] > 0:
            self.done.append(seen)
            self.count += 1

    def _note(self, latency_ms: float, score: float) -> None:
        points = [*self.front, (latency_ms, score)]
        self.front = sorted(points[i] for i in non_dominated(*zip(*points, strict=True)))


def _read(trial: FrozenTrial, guide: Guide) -> Seen:
    policy = PruningPolicy.from_dict(json.loads(trial.user_attrs[POLICY_ATTR]))
    rungs = {int(n): (float(kl), float(error)) for n, kl, error in trial.user_attrs.get(KL_ATTR, ())}
    removal, method = guide.removal(policy), method_of(policy)
    timed = trial.state is TrialState.COMPLETE
    return Seen(
        trial.number,
        dict(trial.params),
        removal,
        method,
        guide.key(removal, method, policy.last_layer == "first_token"),
        rungs,
        trial.values[0] if timed else guide.projector.predict(policy),
    )


def _best_and_latest(done: list[Seen]) -> list[Seen]:
    """Return at most ``MOST`` policies: a model of all would grow without bound."""
    kl, _ = targets(done)
    removed = np.asarray([seen.removal.sum() for seen in done])
    rank = np.argsort(kl - np.log1p(removed))[: MOST // 2]
    chosen = {*rank.tolist(), *range(len(done) - MOST // 2, len(done))}
    return [done[i] for i in sorted(chosen)]


def targets(seen: list[Seen]) -> tuple[Floats, Floats]:
    """Return log KL and its noise variance per policy, each of shape (n,).

    A policy that was stopped early saw other examples on average than one that saw all. Policies that
    went further tell by how much the KL on the first examples differs from that on more of them.
    """
    sizes = sorted({n for one in seen for n in one.rungs})
    shift, total = {sizes[-1]: 0.0}, 0.0
    for small, large in reversed(list(zip(sizes, sizes[1:], strict=False))):
        steps = [_log(s.rungs[large][0]) - _log(s.rungs[small][0]) for s in seen if {small, large} <= set(s.rungs)]
        total += float(np.mean(steps)) if steps else 0.0
        shift[small] = total
    last = [max(one.rungs) for one in seen]
    means = np.asarray([_log(one.rungs[n][0]) + shift[n] for one, n in zip(seen, last, strict=True)])
    relative = np.asarray([one.rungs[n][1] / max(one.rungs[n][0], _TINY) for one, n in zip(seen, last, strict=True)])
    return means, np.minimum(_SHARED * relative**2, 1.0)


def _log(value: float) -> float:
    return float(np.log(max(value, _TINY)))

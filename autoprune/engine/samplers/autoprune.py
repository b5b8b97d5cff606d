"""``AutopruneSampler``: enqueued and profiled schedules first, then a layer-wise Gaussian process.

Every proposal is a staged shape scaled onto a latency by the cost table: a fifth of them onto the budget, the
others to where the front is least known. Candidates are the best schedules by the harm curves, which learn from
what was scored, others near them and near the best known, and random ones. The process predicts their KL to dense;
the largest expected gain over the front at that latency is proposed. Pending proposals count as if they had come
out as predicted (Ginsbourger, Le Riche and Carraro, 2010), so that a batch spreads. Where a share of the budget was
enqueued and nothing else, the best schedule by the curves is proposed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.samplers import BaseSampler
from scipy.stats import norm

from autoprune._registry import SAMPLERS
from autoprune.engine.landscape.removal import Floats, Method, code
from autoprune.engine.landscape.surrogate import Observations, Surrogate
from autoprune.engine.projection import MARGIN
from autoprune.engine.proposals import AIM_ATTR, FIXED_ATTR
from autoprune.engine.samplers import optuna_samplers
from autoprune.engine.samplers.candidates import draw, mutate
from autoprune.engine.samplers.gaps import draw_latency, with_pending
from autoprune.engine.samplers.memory import Memory, Seen, targets

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial, TrialState

    from autoprune.engine.landscape.guide import Candidates, Guide

_FRESH = 8  # policies after which its parameters are chosen anew
_RANDOM, _MUTANTS, _ELITES = 96, 64, 10
_ON_BUDGET = 0.2  # share of proposals that aim at the budget: a third of the scoring, for faster policies cost less
_MORE = 1.25  # times as many policies after which the guide learns anew
_TIE = 1.02  # policies this much slower still count as rivals


class AutopruneSampler(BaseSampler):
    """Optuna sampler for autoprune's spaces; on any other space, and without a guide, multivariate TPE.

    Args:
        seed: Seed of everything random.
        guide: The space with its costs and harm. Trials must carry their policy and KL as user
            attributes, as autoprune's search writes them.
        fallback: Sampler for any other space; None is multivariate TPE.
    """

    def __init__(
        self, seed: int | None = None, guide: Guide | None = None, fallback: BaseSampler | None = None
    ) -> None:
        self._rng = np.random.default_rng(seed)
        self._fallback: BaseSampler = fallback or optuna_samplers.tpe(seed)
        self.guide = guide
        self._memory = Memory()
        self._surrogate, self._tuned = Surrogate(), 0
        self._learned = 0
        self._names: dict[str, int] = {}

    def reseed_rng(self) -> None:
        """Draw a new seed, so that copies in other processes differ."""
        self._rng = np.random.default_rng()
        self._fallback.reseed_rng()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the guide's space; without one what the fallback infers."""
        if self.guide is None:
            return self._fallback.infer_relative_search_space(study, trial)
        return self.guide.space.distributions()

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the parameters of the most promising candidate."""
        if self.guide is None or search_space != self.guide.space.distributions():
            return self._fallback.sample_relative(study, trial, search_space)
        fixed = trial.system_attrs.get(FIXED_ATTR, {})
        if set(fixed) != {"share"} and (trial.params or fixed):
            return {}  # begun by a dead driver, or enqueued: nothing is left to choose
        wanted = (float(fixed["share"]), float(trial.user_attrs.get(AIM_ATTR, 1.0))) if fixed else None
        return self._propose(study, trial.number, self.guide, wanted)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a value for a parameter outside the guide's space."""
        return self._fallback.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Prepare the fallback."""
        self._fallback.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Let the fallback note the outcome, and its feasibility."""
        self._fallback.after_trial(study, trial, state, values)

    def _propose(
        self, study: optuna.Study, number: int, guide: Guide, wanted: tuple[float, float] | None
    ) -> dict[str, Any]:
        memory = self._memory
        known = memory.count
        memory.refresh(study, guide)
        if memory.count != known:
            guide.forget_costs()
        if memory.count >= _MORE * self._learned + 1:
            self._learn(guide, memory)
        share, aim = wanted or self._target(guide, memory)
        planned = guide.planned(share, aim)
        if wanted and planned and (best := self._new(guide, memory, planned, share, aim).params):
            return best[0]
        found = self._new(guide, memory, self._points(guide, memory, planned, share, aim), share, aim)
        if not found.params:
            return draw(guide.space.distributions(), 1, self._rng)[0]
        guide.aims[number] = aim
        if not memory.done:
            return found.params[int(np.argmin(found.log_harm))]
        mean, deviation = self._believe(guide, memory, found)
        gain = self._gain(memory, found, mean, deviation)
        return found.params[int(np.argmax(gain))]

    def _learn(self, guide: Guide, memory: Memory) -> None:
        """Let the guide learn from what was scored; ever more rarely, for it takes a while."""
        removal = np.stack([seen.removal for seen in memory.done])
        guide.learn(removal, [seen.method for seen in memory.done], memory.log_kl, memory.noise)
        self._learned = memory.count

    def _target(self, guide: Guide, memory: Memory) -> tuple[float, float]:
        """Return the latency to aim at: the budget, or where the front is least known.

        Returns:
            A share of the budget within the space's range, and the factor on it.
        """
        low, high = guide.space.file.share
        if self._rng.random() < _ON_BUDGET or not memory.front:
            return high, 1.0
        latency, score = with_pending(memory.front, [seen.latency_ms for seen in memory.pending])
        wanted = draw_latency(latency, score, *guide.reach_ms, self._rng) / (MARGIN * guide.limit_ms)
        share = min(max(wanted, low), high)
        return share, wanted / share

    def _points(
        self, guide: Guide, memory: Memory, planned: list[dict[str, Any]], share: float, aim: float
    ) -> list[dict[str, Any]]:
        """Return the planned schedules, others near them and near the best known, and random ones."""
        space = guide.space.distributions()
        points = [*planned, *draw(space, _RANDOM, self._rng)]
        for parents in (self._elites(memory, MARGIN * guide.target(share, aim)), planned):
            if parents:
                points += mutate(space, parents, _MUTANTS, self._rng)
        return points

    def _new(self, guide: Guide, memory: Memory, points: list[dict[str, Any]], share: float, aim: float) -> Candidates:
        """Return the points, placed on the latency that is aimed at, without policies that were tried before."""
        placed = guide.place([{**point, "share": share} for point in points], aim)
        return placed.rows(np.asarray([key not in memory.keys for key in placed.keys], dtype=bool))

    def _elites(self, memory: Memory, latency_ms: float) -> list[dict[str, Any]]:
        """Return the parameters of the least harmful policies, those whose latency is nearest."""
        known = sorted((seen for seen in memory.done if seen.params), key=lambda seen: -seen.latency_ms)
        if not known:
            return []
        kl, _ = targets(known)
        beaten = np.minimum.accumulate(kl[::-1])[::-1] < kl
        best = [seen for seen, worse in zip(known, beaten, strict=True) if not worse]
        return [seen.params for seen in sorted(best, key=lambda s: abs(np.log(s.latency_ms / latency_ms)))[:_ELITES]]

    def _believe(self, guide: Guide, memory: Memory, found: Candidates) -> tuple[Floats, Floats]:
        """Return mean and deviation of log KL of the candidates."""
        seen, target, noise = memory.done, memory.log_kl, memory.noise
        facts = self._observations(guide, seen, target, noise)
        if len(seen) >= 4 and memory.count >= self._tuned + _FRESH:
            self._surrogate.tune(facts)
            self._tuned = memory.count
        self._surrogate.fit(facts)
        if memory.pending:
            zeros = np.zeros(len(memory.pending))
            asked = self._observations(guide, memory.pending, zeros, zeros)
            imagined, _ = self._surrogate.predict(asked.removal, asked.methods, asked.prior)
            both = self._observations(
                guide,
                [*seen, *memory.pending],
                np.concatenate([target, imagined]),
                np.concatenate([noise, np.full(len(imagined), 0.01)]),
            )
            self._surrogate.fit(both)
        return self._surrogate.predict(found.removal, code(found.methods, self._names), found.log_harm)

    def _observations(self, guide: Guide, seen: Sequence[Seen], target: Floats, noise: Floats) -> Observations:
        removal = np.stack([one.removal for one in seen])
        methods: list[Method] = [one.method for one in seen]
        return Observations(removal, code(methods, self._names), guide.harm.log_harm(removal, methods), target, noise)

    def _gain(self, memory: Memory, found: Candidates, mean: Floats, deviation: Floats) -> Floats:
        """Return the expected improvement of KL over the front at each candidate's latency, shape (m,)."""
        kl = memory.log_kl
        cost = np.asarray([seen.latency_ms for seen in memory.done])
        order = np.argsort(cost)
        lowest = np.minimum.accumulate(np.exp(kl[order]))
        place = np.searchsorted(cost[order], found.cost_ms * _TIE, side="right")
        nothing = float(np.exp(max(mean.max(), kl.max())))  # where no policy is as fast, the worst is the rival
        front = np.where(place > 0, lowest[np.maximum(place - 1, 0)], nothing)
        return expected_improvement(front, mean, deviation)


def expected_improvement(best: Floats, mean: Floats, deviation: Floats) -> Floats:
    """Return ``E[max(0, best - exp(z))]`` for normal z, shape (m,): the value of a put (Black and Scholes, 1973).

    Args:
        best: What has been reached, in nats, shape (m,).
        mean: Mean of log KL, shape (m,).
        deviation: Its standard deviation, shape (m,), > 0.
    """
    reach = (np.log(best) - mean) / deviation
    gain = best * norm.cdf(reach) - np.exp(mean + deviation**2 / 2) * norm.cdf(reach - deviation)
    # A tie at zero is broken by the mean, so that something sensible is chosen when nothing promises a gain.
    return np.asarray(np.maximum(gain, 0.0) - 1e-9 * np.exp(mean), dtype=np.float64)


@SAMPLERS.register("autoprune")
def autoprune(seed: int) -> BaseSampler:
    """Profiled schedules, then a layer-wise Gaussian process on shapes scaled onto a latency."""
    return AutopruneSampler(seed)

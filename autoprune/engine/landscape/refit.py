"""What a search learns of harm: the profile's curves, bent until they explain the policies that were scored.

The profile has few probes on few examples, one stage each. It cannot know how harms of several stages add up, nor
how much milder a cut is behind a filter. That, and every curve, is estimated from whole policies, with what the
profile says as the prior (maximum a posteriori, robust to policies that no curve explains).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from autoprune.engine.landscape.harm import HarmCurve, HarmModel
from autoprune.engine.landscape.removal import Method

Floats = NDArray[np.float64]

_SCALE, _POWER = 0.3, 0.15  # prior deviations of log a and log p
_EXPONENT, _BEHIND = 0.5, 0.4  # prior deviations of their logarithms
_MISFIT = 0.15  # standard deviation of log KL that no curve explains
_STEPS = 30
_FEWEST = 3  # policies
_PARAMETERS = 64  # of curves: with more a fit takes seconds


def refit(profile: HarmModel, removal: Floats, methods: Sequence[Method], log_kl: Floats, noise: Floats) -> HarmModel:
    """Return the harm model that explains the profile and the policies best.

    Policies with a scorer that has no curve of its own are left aside, and so are curves that no policy uses.

    Args:
        profile: What the sensitivity profile found.
        removal: Shape (n, layers).
        methods: One per row.
        log_kl: Logarithm of the mean KL, shape (n,).
        noise: Variance of each, shape (n,).
    """
    known = np.asarray([_labels(method) <= set(profile.curves) for method in methods], dtype=bool)
    if known.sum() < _FEWEST:
        return profile
    used = [method for method, own in zip(methods, known, strict=True) if own]
    shape = _Parameters.of(profile, _most_used(profile, used))
    deviation = np.sqrt(noise[known] + _MISFIT**2)

    def residuals(values: Floats) -> Floats:
        with np.errstate(all="ignore"):  # steps that lead too far are not taken
            error = shape.model(values).log_harm(removal[known], used) - log_kl[known]
        return np.concatenate([error / deviation, (values - shape.centre) / shape.spread])

    if not np.all(np.isfinite(residuals(shape.centre))):
        return profile
    found = least_squares(residuals, shape.centre, loss="soft_l1", max_nfev=_STEPS)
    return shape.model(found.x) if np.all(np.isfinite(found.fun)) else profile


def _most_used(profile: HarmModel, methods: Sequence[Method]) -> list[str]:
    """Return the labels that most policies use, as many as have not too many parameters: a fit takes their square."""
    count = Counter(label for method in methods for label in _labels(method))
    chosen, room = [], _PARAMETERS
    for label, _ in sorted(count.items(), key=lambda pair: (-pair[1], pair[0])):
        room -= len(profile.curves[label].layers) + 1
        if room >= 0:
            chosen.append(label)
    return sorted(chosen)


def _labels(method: Method) -> set[str]:
    return {label for label in (method.before, method.inside) if label}


@dataclass(frozen=True)
class _Parameters:
    """A harm model as a vector: per curve log a at each layer and log p; then log exponent and log behind.

    Attributes:
        start: The model at the centre of the prior.
        labels: Curves that can change.
        centre: Mean of the prior.
        spread: Its standard deviations.
    """

    start: HarmModel
    labels: list[str]
    centre: Floats
    spread: Floats

    @classmethod
    def of(cls, profile: HarmModel, labels: list[str]) -> _Parameters:
        centre, spread = [], []
        for curve in (profile.curves[label] for label in labels):
            centre += [*curve.log_scale, np.log(curve.power)]
            spread += [_SCALE] * len(curve.layers) + [_POWER]
        ends = [np.log(profile.exponent), np.log(profile.behind)]
        return cls(profile, labels, np.asarray([*centre, *ends]), np.asarray([*spread, _EXPONENT, _BEHIND]))

    def model(self, values: Floats) -> HarmModel:
        """Return the model of a vector."""
        curves, rest = {}, values[:-2]
        for label in self.labels:
            layers = self.start.curves[label].layers
            own, rest = rest[: len(layers) + 1], rest[len(layers) + 1 :]
            curves[label] = HarmCurve(layers, tuple(own[:-1].tolist()), float(np.exp(own[-1])))
        exponent, behind = np.exp(values[-2:]).tolist()
        return HarmModel({**self.start.curves, **curves}, exponent, behind)

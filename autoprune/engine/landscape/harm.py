"""Harm curves: how much KL one stage costs, by method, layer and removal, from a few probes.

A curve is ``a * removal ** p``: no harm where nothing is removed, growing ever after. Within a method
p is one number and a does not grow with depth: what is removed later has been read by more layers.
The harm of a policy is the sum over its stages of the step along the curve of the stage's layer; the
surrogate corrects what this additivity gets wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression

from autoprune.engine.landscape.removal import Method

Floats = NDArray[np.float64]
Probe = tuple[int, float, float]
"""(layer, removal, mean KL) of a one-stage policy; layer 0 is the input."""

_POWER_BOUNDS = (0.6, 4.0)
_TINY = 1e-6
_DEFAULT_POWER = 1.8


@dataclass(frozen=True)
class HarmCurve:
    """Harm of one stage of one method.

    Attributes:
        layers: Probed layers, ascending.
        log_scale: log a at these layers.
        power: p.
    """

    layers: tuple[int, ...]
    log_scale: tuple[float, ...]
    power: float

    @classmethod
    def fit(cls, probes: Sequence[Probe]) -> HarmCurve:
        """Fit the curve to at least one probe with removal > 0."""
        layers = sorted({layer for layer, _, _ in probes})
        x = np.log([removal for _, removal, _ in probes])
        y = np.log([max(kl, _TINY) for _, _, kl in probes])
        which = np.asarray([layers.index(layer) for layer, _, _ in probes])
        power = _common_slope(x, y, which)
        scale = [float(np.mean((y - power * x)[which == i])) for i in range(len(layers))]
        falling = IsotonicRegression(increasing=False).fit_transform(layers, scale)
        return cls(tuple(layers), tuple(float(value) for value in falling), power)

    def at(self, layer: int, removal: Floats) -> Floats:
        """Return the harm in nats of removing ``removal`` before ``layer``; same shape as ``removal``."""
        scale = np.exp(np.interp(layer, self.layers, self.log_scale))
        harm: Floats = scale * np.maximum(removal, 0.0) ** self.power
        return harm


def _common_slope(x: Floats, y: Floats, groups: NDArray[np.int64]) -> float:
    """Return the slope of y on x within groups, or the usual one where no group has two points."""
    inner_x, inner_y = x.copy(), y.copy()
    for group in np.unique(groups):
        inner_x[groups == group] -= x[groups == group].mean()
        inner_y[groups == group] -= y[groups == group].mean()
    spread = float(inner_x @ inner_x)
    slope = float(inner_x @ inner_y) / spread if spread > 1e-9 else _DEFAULT_POWER
    return float(min(max(slope, _POWER_BOUNDS[0]), _POWER_BOUNDS[1]))


@dataclass(frozen=True)
class HarmModel:
    """Additive harm of whole policies.

    Attributes:
        curves: Curve by scorer label (see ``Method``); empty: a curve that says no more than that
            removal harms, and early removal more.
    """

    curves: Mapping[str, HarmCurve]

    @classmethod
    def fit(cls, probes: Mapping[str, Sequence[Probe]]) -> HarmModel:
        """Fit one curve per scorer label."""
        return cls({label: HarmCurve.fit(found) for label, found in probes.items() if found})

    def log_harm(self, removal: Floats, methods: Sequence[Method]) -> Floats:
        """Return log KL (nats) of policies, shape (m,).

        Args:
            removal: Shape (m, layers), not decreasing along a row.
            methods: One per row.
        """
        total = np.zeros(len(removal))
        for method in set(methods):
            rows = np.asarray([own == method for own in methods])
            total[rows] = self._harm(removal[rows], method)
        return np.asarray(np.log(np.maximum(total, _TINY)), dtype=np.float64)

    def _harm(self, removal: Floats, method: Method) -> Floats:
        depth = removal.shape[1]
        total, before = np.zeros(len(removal)), np.zeros(len(removal))
        for layer in range(depth):
            curve = self.curve(method.inside if layer else method.before or method.inside, depth)
            total += np.maximum(curve.at(layer, removal[:, layer]) - curve.at(layer, before), 0.0)
            before = removal[:, layer]
        return total

    def curve(self, label: str, n_layers: int) -> HarmCurve:
        """Return the curve of a scorer, or a middle one where the profile did not look at it."""
        if label in self.curves:
            return self.curves[label]
        known = [curve for curve in self.curves.values() if len(curve.layers) > 1]
        if known:
            return known[0]
        # Without a profile: removal before the first layer harms about ten times as before the last.
        return HarmCurve((0, max(1, n_layers - 1)), (-1.5, -3.8), _DEFAULT_POWER)

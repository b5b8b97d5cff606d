"""Harm curves: how much KL one stage costs, by method, layer and removal, from a few probes.

A curve is ``a * removal ** p``: no harm where nothing is removed, growing ever after. Within a method
p is one number; a is each layer's own, for neighbours can differ by much. The harm of a policy is the sum over
its stages of the step along the curve of the stage's layer, in a power of KL that a search learns (``refit``);
the surrogate corrects what this additivity gets wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoprune.engine.landscape.removal import Method

Floats = NDArray[np.float64]
Probe = tuple[int, float, float]
"""(layer, removal, mean KL) of a one-stage policy; layer 0 is the input."""

_POWER_BOUNDS = (0.6, 4.0)
_TINY = 1e-6
_LEAST = 1e-300  # has a logarithm
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
        return cls(tuple(layers), tuple(scale), power)

    def log_scale_at(self, layers: int | NDArray[np.int64]) -> Floats:
        """Return log a at layers; same shape as ``layers``."""
        return np.asarray(np.interp(layers, self.layers, self.log_scale), dtype=np.float64)

    def at(self, layer: int, removal: Floats) -> Floats:
        """Return the harm in nats of removing ``removal`` before ``layer``; same shape as ``removal``."""
        harm: Floats = np.exp(self.log_scale_at(layer)) * np.maximum(removal, 0.0) ** self.power
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
    """Harm of whole policies: steps along the curves, which add up as powers of KL.

    Attributes:
        curves: Curve by scorer label (see ``Method``); empty: a curve that says no more than that
            removal harms, and early removal more.
        exponent: Power of KL in which steps add up: 1 for independent errors, 0.5 for errors that point the same way.
        behind: Factor on the KL of steps inside where a scorer at the input has filtered before.
    """

    curves: Mapping[str, HarmCurve]
    exponent: float = 1.0
    behind: float = 1.0

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
        total, rows_of = np.zeros(len(removal)), dict[Method, list[int]]()
        for row, method in enumerate(methods):
            rows_of.setdefault(method, []).append(row)
        for method, rows in rows_of.items():
            total[rows] = self._steps(removal[rows], method)
        log_kl = np.log(np.maximum(total, _LEAST)) / self.exponent
        return np.asarray(np.maximum(log_kl, np.log(_TINY)), dtype=np.float64)

    def reach(self, layers: NDArray[np.int64], removal: Floats, method: Method, n_layers: int) -> Floats:
        """Return what adds up: a cut from one removal to another before a layer harms by the difference of these.

        Args:
            layers: Where, shape (m,).
            removal: Shape (..., m).
            method: Whose curves.
            n_layers: Layers of the model.

        Returns:
            KL to the power of ``exponent``, same shape as ``removal``.
        """
        inside = self.curve(method.inside or method.before, n_layers)
        before = self.curve(method.before or method.inside, n_layers)
        behind = np.log(self.behind) if method.before and method.inside else 0.0
        first = layers == 0
        log_scale = np.where(first, before.log_scale_at(layers), inside.log_scale_at(layers) + behind)
        power = np.where(first, before.power, inside.power)
        reached: Floats = np.exp(self.exponent * log_scale) * np.maximum(removal, 0.0) ** (self.exponent * power)
        return reached

    def _steps(self, removal: Floats, method: Method) -> Floats:
        """Return the sum of what every cut adds, shape (m,), in KL to the power of ``exponent``."""
        depth = removal.shape[1]
        layers = np.arange(depth)
        before = np.concatenate([np.zeros((len(removal), 1)), removal[:, :-1]], axis=1)
        after, until = self.reach(layers, np.stack([removal, before]), method, depth)
        added: Floats = np.maximum(after - until, 0.0).sum(axis=1)
        return added

    def curve(self, label: str, n_layers: int) -> HarmCurve:
        """Return the curve of a scorer, or a middle one where the profile did not look at it."""
        if label in self.curves:
            return self.curves[label]
        known = [curve for curve in self.curves.values() if len(curve.layers) > 1]
        if known:
            return known[0]
        # Without a profile: removal before the first layer harms about ten times as before the last.
        return HarmCurve((0, max(1, n_layers - 1)), (-1.5, -3.8), _DEFAULT_POWER)

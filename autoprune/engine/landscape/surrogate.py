"""A Gaussian process over removal by layer: what harm will a policy do?

Two policies are alike if they remove alike before each layer (neighbouring layers count almost as the
same one) by the same methods. The target is the logarithm of the mean KL to dense, with its known
sampling noise; the prior mean is linear in what the sensitivity profile says, so that the process
models only what the profile gets wrong. Rasmussen and Williams (2006), chapter 2.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Apart = tuple[Floats, Codes]
"""Squared distance of removals, and in how many parts methods differ; both of shape (m, n)."""

_REACH = 1.0  # layers over which neighbours are alike
_START = np.log([0.5, 1.0, 0.5, 0.05])  # signal, length scale, likeness across methods, extra noise
_BOUNDS = [(np.log(0.05), np.log(3.0)), (np.log(0.15), np.log(6.0)), (np.log(0.05), np.log(0.98)), (np.log(0.01), 0.0)]
_ITERATIONS = 25


@dataclass
class Observations:
    """What the process learns from.

    Attributes:
        removal: Shape (n, layers).
        methods: Shape (n, parts), one whole number per part and name.
        prior: Shape (n,), a guess of the target, up to scale and offset.
        target: Shape (n,).
        noise: Shape (n,), variance of each target.
    """

    removal: Floats
    methods: Codes
    prior: Floats
    target: Floats
    noise: Floats


@dataclass
class Surrogate:
    """Exact Gaussian process regression for some hundreds of policies.

    Attributes:
        log_params: Logarithms of signal deviation, length scale, likeness of policies that differ in
            one part of the method, and extra noise deviation; ``tune`` changes them.
    """

    log_params: Floats = field(default_factory=_START.copy)

    def tune(self, seen: Observations) -> None:
        """Choose the kernel's parameters by maximal marginal likelihood (weak priors keep them sane)."""
        apart, rest = _apart(seen, seen), seen.target - _at(_fit_line(seen), seen.prior)
        found = minimize(
            lambda params: _loss(params, apart, rest, seen.noise),
            self.log_params,
            method="L-BFGS-B",
            bounds=_BOUNDS,
            options={"maxiter": _ITERATIONS},
        )
        if np.all(np.isfinite(found.x)):
            self.log_params = np.asarray(found.x, dtype=np.float64)

    def fit(self, seen: Observations) -> None:
        """Condition on observations; at least one is needed."""
        self._seen = seen
        self._line = _fit_line(seen)
        covariance = _covariance(self.log_params, _apart(seen, seen), seen.noise)
        self._factor = cho_factor(covariance, lower=True)
        self._alpha = cho_solve(self._factor, seen.target - _at(self._line, seen.prior))

    def predict(self, removal: Floats, methods: Codes, prior: Floats) -> tuple[Floats, Floats]:
        """Return mean and standard deviation of the noise-free target, each of shape (m,)."""
        asked = Observations(removal, methods, prior, prior, prior)
        cross = _kernel(self.log_params, _apart(asked, self._seen))
        mean = _at(self._line, prior) + cross @ self._alpha
        half = solve_triangular(self._factor[0], cross.T, lower=True)
        variance = np.exp(2 * self.log_params[0]) - np.sum(half**2, axis=0)
        return mean, np.sqrt(np.maximum(variance, 1e-6))


def _apart(left: Observations, right: Observations) -> Apart:
    """Return how far policies are apart, whatever the kernel's parameters are."""
    a, b = _smooth(left.removal), _smooth(right.removal)
    squares = np.sum(a**2, axis=1)[:, None] + np.sum(b**2, axis=1)[None, :] - 2 * a @ b.T
    differing = np.zeros(squares.shape, dtype=np.int64)
    for part in range(left.methods.shape[1]):  # a sum over a third axis would take much longer
        differing += left.methods[:, part, None] != right.methods[None, :, part]
    return np.maximum(squares, 0.0), differing


def _kernel(params: Floats, apart: Apart) -> Floats:
    """Return the covariance of what policies do, shape as ``apart``."""
    signal, length, likeness = np.exp(params[:3])
    squares, differing = apart
    alike = likeness ** np.arange(differing.max(initial=0) + 1)
    kernel: Floats = signal**2 * np.exp(-0.5 * squares / length**2) * alike[differing]
    return kernel


def _covariance(params: Floats, apart: Apart, noise: Floats) -> Floats:
    """Return the covariance of targets of shape (n,), whose own noise variances are given."""
    covariance: Floats = _kernel(params, apart) + np.diag(noise + np.exp(2 * params[3]))
    return covariance


def _loss(params: Floats, apart: Apart, rest: Floats, noise: Floats) -> float:
    """Return the negative log posterior of the kernel's parameters, without its constant."""
    try:
        factor = cho_factor(_covariance(params, apart, noise), lower=True)
    except LinAlgError:
        return 1e12
    fit = 0.5 * float(rest @ cho_solve(factor, rest)) + float(np.log(np.diag(factor[0])).sum())
    return fit + 0.5 * float(np.sum((params - _START) ** 2))


def _smooth(removal: Floats) -> Floats:
    """Blur removal over neighbouring layers and make its length independent of the depth."""
    n = removal.shape[1]
    gap = np.abs(np.arange(n)[:, None] - np.arange(n)[None, :])
    blur = np.exp(-gap / _REACH)
    smooth: Floats = removal @ (blur / blur.sum(axis=0)) / np.sqrt(n)
    return smooth


def _fit_line(seen: Observations) -> tuple[float, float]:
    """Return offset and slope of the target against the prior; the slope is pulled towards 1."""
    weight = 1.0 / (seen.noise + 0.1)
    centre_x, centre_y = np.average(seen.prior, weights=weight), np.average(seen.target, weights=weight)
    x, y = seen.prior - centre_x, seen.target - centre_y
    slope = float((np.sum(weight * x * y) + 5.0) / (np.sum(weight * x * x) + 5.0))
    slope = min(max(slope, 0.2), 3.0)
    return float(centre_y - slope * centre_x), slope


def _at(line: tuple[float, float], prior: Floats) -> Floats:
    return line[0] + line[1] * prior

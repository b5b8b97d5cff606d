"""Optuna's own samplers, on autoprune's space."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import optuna
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler

from autoprune._registry import SAMPLERS

SamplerFactory = Callable[[int], BaseSampler]
_STARTUP = 8


@SAMPLERS.register("tpe")
def tpe(seed: int | None) -> BaseSampler:
    """Multi-objective tree-structured Parzen estimator, parameters modelled jointly."""
    return _quietly(lambda: TPESampler(seed=seed, multivariate=True, n_startup_trials=_STARTUP, constant_liar=True))


@SAMPLERS.register("nsga2")
def nsga2(seed: int) -> BaseSampler:
    """NSGA-II, population 20."""
    return NSGAIISampler(seed=seed, population_size=20)


@SAMPLERS.register("gp")
def gp(seed: int) -> BaseSampler:
    """Gaussian process with expected hypervolume improvement."""
    return _quietly(lambda: GPSampler(seed=seed, n_startup_trials=_STARTUP))


@SAMPLERS.register("random")
def random(seed: int) -> BaseSampler:
    """Independent random values: the control."""
    return RandomSampler(seed=seed)


@SAMPLERS.register("qmc")
def qmc(seed: int) -> BaseSampler:
    """Scrambled Sobol sequence."""
    return _quietly(lambda: QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False))


def _quietly(build: Callable[[], BaseSampler]) -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return build()

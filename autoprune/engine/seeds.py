"""Policies worth trying first: schedules that the literature and our own measurements favour."""

from __future__ import annotations

from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from autoprune.spaces.space import Space

# A static filter in front saves the work of every layer; then one cut, three even cuts, and the
# two together; truncation as the control that every search must beat.
_SEEDS: tuple[dict[str, Any], ...] = (
    {"input.scorer": "lexicon", "stages.count": 0},
    {"input.scorer": "lexicon", "input.weight": 0.6, "stages.count": 1, "stages.first": 0.5},
    {"input.scorer": "lexicon", "input.weight": 0.5, "stages.count": 2, "stages.first": 0.34, "stages.gap": 1},
    {"input.scorer": "none", "stages.count": 3, "stages.first": 0.17, "stages.gap": 1, "stages.curve": 0.0},
    {"input.scorer": "none", "stages.count": 1, "stages.first": 0.17},
    {"input.scorer": "truncate", "stages.count": 0},
    {"input.scorer": "lexicon", "input.weight": 0.75, "stages.count": 1, "stages.first": 0.34, "share": 0.75},
    {"input.scorer": "lexicon", "input.weight": 0.6, "stages.count": 2, "stages.first": 0.34, "share": 0.6},
)


def seed_params(space: Space) -> list[dict[str, Any]]:
    """Return complete parameter values for the seeds that this space can express.

    Depths are given as shares of the model's layers, so that one list serves every depth.
    """
    seeds = [_complete(seed, space) for seed in _SEEDS]
    return [seed for seed in seeds if seed is not None]


def _complete(seed: dict[str, Any], space: Space) -> dict[str, Any] | None:
    values: dict[str, Any] = {}
    for name, distribution in space.distributions().items():
        wanted = seed.get(name)
        if isinstance(distribution, CategoricalDistribution):
            if wanted is not None and wanted not in distribution.choices:
                return None
            values[name] = wanted if wanted is not None else distribution.choices[0]
        elif isinstance(distribution, IntDistribution):
            raw = 0 if wanted is None else wanted * space.n_layers if isinstance(wanted, float) else wanted
            values[name] = int(min(max(round(raw), distribution.low), distribution.high))
        elif isinstance(distribution, FloatDistribution):
            middle = min(max(0.0, distribution.low), distribution.high)
            default = distribution.high if name == "share" else middle
            values[name] = float(
                min(max(wanted if wanted is not None else default, distribution.low), distribution.high)
            )
    return values

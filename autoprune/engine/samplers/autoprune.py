"""The default sampler: known-good schedules first, then a joint Parzen model of the shapes.

Every proposal is projected onto a latency target afterwards, which measurements found to matter
more than the sampler behind it.
"""

from __future__ import annotations

from optuna.samplers import BaseSampler

from autoprune._registry import SAMPLERS
from autoprune.engine.samplers import optuna_samplers


@SAMPLERS.register("autoprune")
def autoprune(seed: int) -> BaseSampler:
    """Seeds are enqueued by the driver; what follows is Optuna's multivariate TPE on shapes."""
    sampler: BaseSampler = optuna_samplers.tpe(seed)
    return sampler

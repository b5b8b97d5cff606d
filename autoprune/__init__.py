"""autoprune: the token-pruning policy that keeps the most accuracy under a latency budget, on your machine.

Public names load on first use, so that ``import autoprune`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autoprune.budget import Budget
    from autoprune.config import SearchConfig
    from autoprune.deploy.load import load
    from autoprune.engine.events import Observer
    from autoprune.engine.result import SearchResult
    from autoprune.policy import PruningPolicy
    from autoprune.pruning.attach import attach

__version__ = "0.1.0"
__all__ = ["Budget", "PruningPolicy", "SearchConfig", "SearchResult", "__version__", "attach", "load", "search"]

_HOMES = {
    "Budget": "autoprune.budget",
    "PruningPolicy": "autoprune.policy",
    "SearchConfig": "autoprune.config",
    "SearchResult": "autoprune.engine.result",
    "attach": "autoprune.pruning.attach",
    "load": "autoprune.deploy.load",
}


def search(
    model: str | None = None,
    dataset: str | None = None,
    budget: str | Budget = "20ms",
    *,
    observer: Observer | None = None,
    **options: Any,
) -> SearchResult:
    """Find the policy that keeps the most accuracy under a latency budget on this machine.

    Args:
        model: Folder or hub id of the model; None takes the embedded quickstart.
        dataset: File, folder or hub name of the data; None with ``model`` None takes the quickstart's.
        budget: ``20ms``, ``0.02s``, ``60%`` of dense, ``2x`` faster; if wanted with ``@p50`` or ``@p95``.
        observer: Is told how the search goes.
        **options: The other fields of ``SearchConfig``.

    Returns:
        The result: ``.status``, ``.best``, ``.front.to_pandas()``, ``.save(dir)``.

    Raises:
        AutopruneError: See ``autoprune.errors``; each says what is wrong and what to do.
    """
    from autoprune.config import SearchConfig
    from autoprune.engine.driver import search as run

    return run(SearchConfig.of(model=model, dataset=dataset, budget=budget, **options), observer)


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'autoprune' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

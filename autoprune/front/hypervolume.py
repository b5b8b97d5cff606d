"""Hypervolume of a front: one number for how much of the trade-off a search has won."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from autoprune.front.pareto import non_dominated


def hypervolume(
    latency: ArrayLike,
    score: ArrayLike,
    *,
    latency_reference: float,
    score_reference: float = 0.0,
    feasible: ArrayLike | None = None,
) -> float:
    """Return the area that the front dominates, as computed by ``moocore``.

    Give latency as a share of dense and ``latency_reference=1.0`` for a figure that does not depend on the machine.

    Args:
        latency: (n,) latencies, less is better.
        score: (n,) scores, more is better.
        latency_reference: The worst latency that counts; slower points add nothing.
        score_reference: The worst score that counts.
        feasible: (n,) whether a point may take part; None: all may.

    Returns:
        Area in latency unit x score unit (>= 0).
    """
    import moocore  # local: its compiled core takes a while to load and few callers need it

    front = non_dominated(latency, score, feasible)
    if not front:
        return 0.0
    points = np.column_stack([np.asarray(latency, float)[front], -np.asarray(score, float)[front]])
    return float(moocore.hypervolume(points, ref=np.array([latency_reference, -score_reference])))

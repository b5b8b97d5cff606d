"""Where the front that was drawn so far is least known: between two neighbours that lie far apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autoprune.front.pareto import non_dominated

Floats = NDArray[np.float64]


def draw_latency(latency: Floats, score: Floats, low: float, high: float, rng: np.random.Generator) -> float:
    """Return a latency at which a policy would tell much of the front.

    Between two neighbours on the front the true one lies somewhere in the rectangle that they span; a rectangle is
    drawn in proportion to its area (what the hypervolume can gain there) per latency (what scoring costs there), and a
    latency in its middle half.

    Args:
        latency: What was measured, shape (n,), n > 0.
        score: Of the same policies, shape (n,), more is better.
        low: Least latency to return, > 0.
        high: Largest latency to return, >= ``low``.
        rng: Source of randomness.
    """
    front = [i for i in non_dominated(latency, score) if low < latency[i] < high]
    front.sort(key=lambda i: float(latency[i]))
    edges = np.concatenate([[low], latency[front], [high]])
    steps = np.diff(_between_ends(latency, score, score[front], low))
    gains = np.maximum(steps, 0.0) * np.diff(edges) / (edges[1:] + edges[:-1])
    if gains.sum() <= 0:
        return float(rng.uniform(low, high))
    gap = int(rng.choice(len(gains), p=gains / gains.sum()))
    return float(edges[gap] + rng.uniform(0.25, 0.75) * (edges[gap + 1] - edges[gap]))


def with_pending(front: Sequence[tuple[float, float]], pending: Sequence[float]) -> tuple[Floats, Floats]:
    """Return latency and score of a front and of pending policies, which lie on the line between their neighbours.

    Args:
        front: Latency and score, the fastest first, at least one.
        pending: Predicted latencies.
    """
    latency, score = np.asarray(front, dtype=np.float64).T
    expected = np.interp(pending, latency, score)
    return np.concatenate([latency, pending]), np.concatenate([score, expected])


def _between_ends(latency: Floats, score: Floats, front: Floats, low: float) -> Floats:
    """Return the front's scores between those at the two ends of the reach, shape (m + 2,).

    At the slow end that is the best of all; at the fast end the best of what is as fast, or, where nothing was tried,
    as much worse than the fastest as that is worse than the best.
    """
    best = score.max()
    fast = score[latency <= low]
    first = front[0] if len(front) else best
    return np.concatenate([[fast.max() if len(fast) else 2 * first - best], front, [best]])

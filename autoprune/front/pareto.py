"""Feasible, non-dominated, best and knee: pure functions on latency (down) and score (up).

Dominance is point-wise, as in ``study.best_trials`` of Optuna: equal points do not dominate each
other, so duplicates stay together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from autoprune.errors import InputError

Floats = NDArray[np.float64]


def _columns(
    latency: ArrayLike, score: ArrayLike, feasible: ArrayLike | None
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    lat, sco = np.asarray(latency, dtype=np.float64), np.asarray(score, dtype=np.float64)
    allowed = np.ones(lat.shape, dtype=bool) if feasible is None else np.asarray(feasible, dtype=bool)
    if lat.ndim != 1 or lat.shape != sco.shape or lat.shape != allowed.shape:
        raise InputError(
            f"Latency, score and feasibility must be lists of one length: {lat.shape}, {sco.shape}, {allowed.shape}."
        )
    # A value that is not a number was never measured: such a point takes no part.
    return lat, sco, allowed & ~np.isnan(lat) & ~np.isnan(sco)


def non_dominated(latency: ArrayLike, score: ArrayLike, feasible: ArrayLike | None = None) -> list[int]:
    """Return the indices of the front, ascending.

    A point is dominated if another feasible one is no worse in both values and better in one.

    Args:
        latency: (n,) latencies, any unit, less is better.
        score: (n,) scores, more is better.
        feasible: (n,) whether a point may take part; None: all may.

    Raises:
        InputError: The lengths differ.
    """
    lat, sco, allowed = _columns(latency, score, feasible)
    index = np.flatnonzero(allowed)
    # Fastest first, best score first among equals: a point is then on the front exactly when its score
    # beats all that came before, or when it repeats the last point that did.
    order = index[np.lexsort((-sco[index], lat[index]))]
    front: list[int] = []
    best = last = None
    for i in order:
        point = (lat[i], sco[i])
        if best is None or sco[i] > best or point == last:
            front.append(int(i))
            best, last = sco[i], point
    return sorted(front)


def pick_best(
    latency: ArrayLike,
    score: ArrayLike,
    feasible: ArrayLike | None = None,
    limit: float | None = None,
) -> int | None:
    """Return the index of the highest score within the limit; ties go to the lower latency, then the lower index.

    Args:
        latency: (n,) latencies.
        score: (n,) scores.
        feasible: (n,) whether a point may take part; None: all may.
        limit: Largest latency allowed, in the unit of ``latency``; None: no limit.

    Returns:
        The index, or None if no point is allowed.
    """
    lat, sco, allowed = _columns(latency, score, feasible)
    if limit is not None:
        allowed &= lat <= limit
    index = np.flatnonzero(allowed)
    if index.size == 0:
        return None
    return int(index[np.lexsort((index, lat[index], -sco[index]))[0]])


def knee(latency: ArrayLike, score: ArrayLike, feasible: ArrayLike | None = None) -> int | None:
    """Return the front's knee: the point farthest above the line between the front's two ends.

    Both values are scaled to the front's own range, so that units do not matter.

    Returns:
        The index; None for an empty front. A front of one or two points has no bend: its best score is returned.
    """
    lat, sco, _ = _columns(latency, score, feasible)
    front = [i for i in non_dominated(latency, score, feasible) if np.isfinite(lat[i]) and np.isfinite(sco[i])]
    if len(front) < 3:
        return pick_best(latency, score, feasible)
    x, y = _unit(lat[front]), _unit(sco[front])
    # The ends are (0, 0) and (1, 1), so the height above the line is y - x.
    return front[int(np.argmax(y - x))]


def _unit(values: Floats) -> Floats:
    span = float(np.ptp(values))
    return (values - values.min()) / span if span > 0 else np.zeros_like(values)


def ties(
    ratio_lo: Sequence[float], ratio_hi: Sequence[float], score_lo: Sequence[float], score_hi: Sequence[float]
) -> list[bool]:
    """Return, per front member, whether the measurements cannot tell it from a neighbour on the front.

    Two members tie when their intervals overlap in latency **and** in score.

    Args:
        ratio_lo: (n,) lower ends of the latency intervals.
        ratio_hi: (n,) upper ends.
        score_lo: (n,) lower ends of the score intervals (the drop's interval serves as well).
        score_hi: (n,) upper ends.
    """
    lo, hi = np.asarray(ratio_lo, dtype=float), np.asarray(ratio_hi, dtype=float)
    low, high = np.asarray(score_lo, dtype=float), np.asarray(score_hi, dtype=float)
    overlap = (lo[:, None] <= hi[None, :]) & (lo[None, :] <= hi[:, None])
    overlap &= (low[:, None] <= high[None, :]) & (low[None, :] <= high[:, None])
    np.fill_diagonal(overlap, False)
    return [bool(row.any()) for row in overlap]

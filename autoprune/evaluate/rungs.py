"""Rungs: score on a few examples first, go on only while the policy can still reach the front.

All policies see the examples in one fixed order, so that two of them can be compared pair by pair.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from autoprune.evaluate.quality import Floats

_SIZES = (64, 256)
_Z95 = 1.959964
LATENCY_SLACK = 1.02
"""Predicted against measured latency: a rival this much slower still counts as no slower."""
CERTAIN_SLACK = 0.95
"""A rival this much faster is faster beyond the cost table's error."""


@dataclass(frozen=True)
class Rival:
    """A policy that others are compared with.

    Attributes:
        latency_ms: Its measured latency, or the predicted one while it is not timed.
        kl: Its KL to dense per example so far, shape (n,), in the fixed order.
    """

    latency_ms: float
    kl: Floats


def rung_sizes(n_examples: int) -> tuple[int, ...]:
    """Return how many examples each rung has seen in total; the last is all of them."""
    return (*(size for size in _SIZES if size * 2 <= n_examples), n_examples)


def next_rung(done: int, n_examples: int) -> int | None:
    """Return the size of the rung after ``done`` examples, or None when all were seen."""
    return next((size for size in rung_sizes(n_examples) if size > done), None)


def is_beaten(kl: Floats, predicted_ms: float, rivals: Iterable[Rival], slack: float = LATENCY_SLACK) -> bool:
    """Say whether a no slower policy is better beyond doubt on the same examples.

    Args:
        kl: KL to dense per example so far, shape (m,).
        predicted_ms: The policy's predicted latency.
        rivals: Other policies; compared on the examples that both have seen.
        slack: A rival counts as no slower up to this multiple of ``predicted_ms``.

    Returns:
        True if for some rival of no higher latency the paired 95 % interval of the mean KL
        difference lies above zero.
    """
    return any(_is_worse(kl, rival.kl) for rival in rivals if rival.latency_ms <= predicted_ms * slack)


def _is_worse(kl: Floats, rival: Floats) -> bool:
    common = min(len(kl), len(rival))
    if common < 2:
        return False
    difference = kl[:common] - rival[:common]
    return bool(np.mean(difference) - _Z95 * np.std(difference, ddof=1) / np.sqrt(common) > 0)

"""Is the budget met? Decided by the interval, never by the point alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Decision = Literal["met", "not_met", "too_noisy"]


def decide(
    ratio_ci95: tuple[float, float] | list[float], limit_ratio: float, noisy: bool, drifted: bool = False
) -> Decision:
    """Compare a ratio's interval with the limit.

    Args:
        ratio_ci95: 95 % interval of latency / dense latency.
        limit_ratio: The budget as a share of dense latency.
        noisy: Whether the meter found itself disturbed.
        drifted: Whether dense itself moved while it was timed, so that pairs say little.

    Returns:
        ``met`` when the upper end is within the limit, ``not_met`` when the interval reaches above it
        on a quiet machine, ``too_noisy`` when it holds the limit because the machine is disturbed, or dense drifted.
    """
    low, high = ratio_ci95
    if drifted:
        return "too_noisy"
    if high <= limit_ratio:
        return "met"
    return "too_noisy" if noisy and low <= limit_ratio else "not_met"


def excess_ms(figures: Mapping[str, Any], limit_ratio: float, dense_ms: float) -> float:
    """Return Optuna's constraint value: milliseconds of the interval's upper end over the limit."""
    return (float(figures["ratio_ci95"][1]) - limit_ratio) * dense_ms

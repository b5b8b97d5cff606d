"""Figures as people read them; an absent figure is a dash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autoprune.errors import PolicyError
from autoprune.policy import PruningPolicy

DASH = "–"
NOT_SCORED = "not scored"  # a search that ends with the probe scores nothing, not even dense
VERDICTS = {
    "met": "The budget is met.",
    "already_met": "The model meets the budget without pruning.",
    "not_met": "No policy that was tried meets the budget.",
    "infeasible": "No policy can meet the budget: it is under the floor.",
    "too_noisy": "The machine was too disturbed to decide.",
    "interrupted": "Interrupted; everything so far is saved.",
    "running": "The search has not finished.",
}


def ms(value: float | None) -> str:
    """Return milliseconds with three figures, such as ``18.7 ms``."""
    if value is None:
        return DASH
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms" if value >= 10 else f"{value:.2f} ms"


def number(value: float | None, digits: int = 4) -> str:
    """Return a number with fixed digits after the point."""
    return DASH if value is None else f"{value:.{digits}f}"


def score(value: float | None) -> str:
    """Return a score, or that there is none."""
    return NOT_SCORED if value is None else number(value)


def percent(value: float | None, digits: int = 1) -> str:
    """Return a share in percent."""
    return DASH if value is None else f"{100 * value:.{digits}f} %"


def times(value: float | None) -> str:
    """Return a speed-up, such as ``2.71×``."""
    return DASH if value is None else f"{value:.2f}×"


def interval(bounds: Sequence[float | None] | None, digits: int = 4) -> str:
    """Return an interval in brackets, or a dash."""
    if not bounds or len(bounds) != 2 or bounds[0] is None or bounds[1] is None:
        return DASH
    return f"[{bounds[0]:.{digits}f}, {bounds[1]:.{digits}f}]"


def verdict(status: str) -> str:
    """Return a study's status as a sentence."""
    return VERDICTS.get(status, status)


def pick(document: Any, *path: str) -> Any:
    """Follow keys into nested dicts; None where one is missing or null."""
    for key in path:
        if not isinstance(document, Mapping):
            return None
        document = document.get(key)
    return document


def policy_line(policy: Mapping[str, Any] | None) -> str:
    """Return a policy (its JSON form) in one line."""
    if policy is None:
        return DASH
    try:
        return PruningPolicy.from_dict(policy).describe()
    except PolicyError:
        return "a policy of a newer version"

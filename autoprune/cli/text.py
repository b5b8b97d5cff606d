"""Figures as people read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

DASH = "-"


def ms(value: float | None) -> str:
    """Return milliseconds with three figures, such as ``18.7 ms``."""
    if value is None:
        return DASH
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms" if value >= 10 else f"{value:.2f} ms"


def number(value: float | None, digits: int = 4) -> str:
    """Return a number with a fixed number of digits after the point."""
    return DASH if value is None else f"{value:.{digits}f}"


def interval(bounds: Sequence[float | None] | None, digits: int = 4) -> str:
    """Return an interval in brackets; nothing where there is none."""
    if bounds is None or any(bound is None for bound in bounds):
        return ""
    return f"[{number(bounds[0], digits)}, {number(bounds[1], digits)}]"


def speedup(value: float | None) -> str:
    """Return a speed-up, such as ``2.71x``."""
    return DASH if value is None else f"{value:.2f}x"


def pick(document: Mapping[str, Any] | None, *path: str) -> Any:
    """Follow keys into nested documents; None where one is missing or null."""
    value: Any = document
    for key in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def policy_line(policy: Mapping[str, Any] | None) -> str:
    """Return a policy (its JSON form) in one line."""
    if policy is None:
        return DASH
    from autoprune.policy import PruningPolicy

    return PruningPolicy.from_dict(policy).describe()

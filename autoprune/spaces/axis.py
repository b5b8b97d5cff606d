"""``Axis``: a dimension of a space beyond its stages. Each is one file in ``axes/``."""

from __future__ import annotations

from typing import Any, Protocol

from autoprune.policy import PruningPolicy

NOT_YET = {
    "dtype": "a policy names no number format, and a search measures one; search once per --dtype",
    "quantization": "a policy names no quantization, and a search measures the model as it is given",
}
"""Axes that people look for, and why there is none."""


class Axis(Protocol):
    """What a file in ``axes/`` registers under the axis' name."""

    def check(self, value: Any) -> None:
        """Refuse a value that the axis cannot take with ``ValueError``."""

    def apply(self, policy: PruningPolicy, value: Any) -> PruningPolicy:
        """Return the policy at this value of the axis."""

"""Latency budgets: ``20ms``, ``0.02s``, ``60%`` (of dense), ``2x`` (speed-up); ``@p50`` or ``@p95``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from autoprune.errors import BudgetError

Statistic = Literal["p50", "p95"]

_PATTERN = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|%|x)\s*(?:@\s*(p50|p95)\s*)?", re.IGNORECASE | re.ASCII)
_HINT = "Write it like 20ms, 0.02s, 60% (of dense) or 2x (speed-up), if you like with @p50 or @p95."


@dataclass(frozen=True)
class Budget:
    """A limit on one latency statistic of a workload.

    Attributes:
        text: The budget as the user wrote it, without spaces.
        statistic: ``p50`` or ``p95`` of the latency samples.
        absolute_ms: The limit in milliseconds, or None for a budget relative to dense.
        of_dense: The limit as a share of dense latency in (0, 1], or None for an absolute one.
    """

    text: str
    statistic: Statistic
    absolute_ms: float | None = None
    of_dense: float | None = None

    @classmethod
    def parse(cls, text: str | Budget) -> Budget:
        """Read a budget.

        Raises:
            BudgetError: The text is no budget, or its value is out of range.
        """
        if isinstance(text, Budget):
            return text
        match = _PATTERN.fullmatch(text)
        if match is None:
            raise BudgetError(f"{text!r} is not a latency budget.", _HINT)
        value, unit = float(match[1]), match[2].lower()
        statistic: Statistic = "p95" if (match[3] or "p50").lower() == "p95" else "p50"
        clean = re.sub(r"\s+", "", text).lower()
        if value <= 0:
            raise BudgetError(f"The budget {text!r} is zero: nothing runs in no time.", _HINT)
        if unit in ("ms", "s"):
            return cls(clean, statistic, absolute_ms=value * (1000.0 if unit == "s" else 1.0))
        share = value / 100.0 if unit == "%" else 1.0 / value
        if share > 1:
            raise BudgetError(f"The budget {text!r} is slower than the model without pruning.", _HINT)
        return cls(clean, statistic, of_dense=share)

    def limit_ms(self, dense_ms: float) -> float:
        """Return the limit in milliseconds.

        Args:
            dense_ms: The study's dense latency, of this budget's statistic, in milliseconds (> 0).
        """
        return self.absolute_ms if self.absolute_ms is not None else self.limit_ratio(dense_ms) * dense_ms

    def limit_ratio(self, dense_ms: float) -> float:
        """Return the limit as a share of dense latency (may exceed 1 for an absolute budget)."""
        if self.of_dense is not None:
            return self.of_dense
        limit = self.absolute_ms if self.absolute_ms is not None else dense_ms
        return limit / dense_ms

    def __str__(self) -> str:
        return self.text

"""The front drawn with characters, for terminals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from autoprune.report.words import ms, number


class Plotted(Protocol):
    """What is drawn of a trial; ``TrialPoint`` has it."""

    @property
    def latency_ms(self) -> float:
        """Latency."""

    @property
    def score(self) -> float:
        """Score."""


def front_plot(
    front: Sequence[Plotted],
    *,
    others: Sequence[Plotted] = (),
    dense: tuple[float, float] | None = None,
    best: tuple[float, float] | None = None,
    limit_ms: float | None = None,
    width: int = 72,
    height: int = 16,
) -> str:
    """Return latency (right is slower) against score (up is better) as lines of text.

    ``●`` front, ``·`` other trials, ``◆`` dense, ``★`` promised, ``│`` the budget.

    Args:
        front: Members of the front.
        others: Other trials.
        dense: Latency in ms and score of dense, or None.
        best: Latency in ms and score of the promised policy, or None.
        limit_ms: The budget, or None.
        width: Columns of the whole drawing, axis included (at least 30).
        height: Rows of the plot (at least 4).

    Returns:
        The drawing, or one sentence if there is nothing to draw.
    """
    marks = [(p.latency_ms, p.score, "·") for p in others] + [(p.latency_ms, p.score, "●") for p in front]
    marks += [(*dense, "◆")] if dense else []
    marks += [(*best, "★")] if best else []
    if not marks:
        return "Nothing was both scored and timed yet."
    columns, rows = max(width, 30) - 9, max(height, 4)
    x = _Axis([mark[0] for mark in marks] + ([limit_ms] if limit_ms is not None else []), columns)
    y = _Axis([mark[1] for mark in marks], rows)
    grid = [[" "] * columns for _ in range(rows)]
    if limit_ms is not None:
        for row in grid:
            row[x.cell(limit_ms)] = "│"
    for latency, score, sign in marks:
        grid[rows - 1 - y.cell(score)][x.cell(latency)] = sign
    labels = {0: number(y.high, 3), rows - 1: number(y.low, 3)}
    lines = [f"{labels.get(index, ''):>7} ┤{''.join(row)}".rstrip() for index, row in enumerate(grid)]
    left, right = ms(x.low), ms(x.high)
    lines.append(" " * 8 + "└" + "─" * columns)
    lines.append(" " * 9 + left + right.rjust(columns - len(left)))
    lines.append(" " * 9 + _legend(bool(others), dense is not None, best is not None, limit_ms))
    return "\n".join(lines)


def _legend(others: bool, dense: bool, best: bool, limit_ms: float | None) -> str:
    shown = ["● front"]
    shown += ["· tried"] if others else []
    shown += ["◆ dense"] if dense else []
    shown += ["★ promised"] if best else []
    shown += [f"│ budget {ms(limit_ms)}"] if limit_ms is not None else []
    return "   ".join(shown)


class _Axis:
    """Maps values to cells 0 .. n - 1, with a little room at both ends."""

    def __init__(self, values: Sequence[float], n: int) -> None:
        finite = np.asarray([value for value in values if np.isfinite(value)] or [0.0])
        span = float(np.ptp(finite)) or abs(float(finite[0])) or 1.0
        self.low, self.high, self._n = float(finite.min()) - 0.02 * span, float(finite.max()) + 0.02 * span, n

    def cell(self, value: float) -> int:
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return min(self._n - 1, int(share * self._n))

"""From what searchers found to the printed figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from world import Truth

from autoprune.front.pareto import non_dominated, pick_best

CHECKPOINTS = (10, 25, 50, 100, 200)
Row = Sequence[Any]
"""spent, ratio, score as seen, true score, digest."""


def volume(rows: Sequence[Row], truth: Truth) -> float:
    """Return the true hypervolume of what the searcher would call its front, in % of the true front's."""
    if not rows:
        return 0.0
    ratio, seen, score = ([row[i] for row in rows] for i in (1, 2, 3))
    front = non_dominated(ratio, seen)
    return 100 * truth.volume([ratio[i] for i in front], [score[i] for i in front])


def picked(rows: Sequence[Row], truth: Truth, budget: float) -> float:
    """Return the true score of the policy that the searcher would pick under the budget; chance, where it has none."""
    ratio, seen = [row[1] for row in rows], [row[2] for row in rows]
    best = pick_best(ratio, seen, limit=budget) if rows else None
    return truth.chance if best is None else float(rows[best][3])


def regret(rows: Sequence[Row], truth: Truth, budget: float) -> float:
    """Return points of true score between the best policy under the budget and the one that would be picked."""
    return 100 * (truth.best(budget) - picked(rows, truth, budget))


def curve(rows: Sequence[Row], truth: Truth, budget: float, at: Sequence[float]) -> tuple[list[float], ...]:
    """Return hypervolume, regret, and score under the budget, after so many full-evaluation equivalents."""
    known = [[row for row in rows if row[0] <= spent] for spent in at]
    return (
        [volume(found, truth) for found in known],
        [regret(found, truth, budget) for found in known],
        [picked(found, truth, budget) for found in known],
    )


def first_at(rows: Sequence[Row], truth: Truth, level: float) -> float:
    """Return the full-evaluation equivalents after which the hypervolume is at least ``level``; infinite: never."""
    for count, row in enumerate(rows, 1):
        if volume(rows[:count], truth) >= level:
            return float(row[0])
    return float("inf")


def summary(runs: Sequence[tuple[Mapping[str, Any], Truth]], budget: float, limit: float) -> dict[str, Any]:
    """Return the medians over seeds of one searcher's figures.

    Args:
        runs: Account (``Account.to_dict``, with the limit that it was run to) and truth per seed.
        budget: Share of dense.
        limit: Full-evaluation equivalents of the last checkpoint; what has none is of the whole searches.

    Returns:
        The figures; a search that was stopped before a checkpoint does not count there (``seeds`` tells how many do).
    """
    known = {n: [run for run in runs if run[0]["limit"] >= n] for n in (*CHECKPOINTS, 60) if n <= limit}
    known = {n: some for n, some in known.items() if some}
    middle = {n: np.median([curve(a["found"], t, budget, [n]) for a, t in some], axis=0) for n, some in known.items()}
    plain = [volume(account["found"][:100], truth) for account, truth in runs]
    parts = {name for account, _ in runs for name in account["parts"]}
    return {
        "seeds": {str(n): len(some) for n, some in known.items()},
        "volume": {str(n): round(float(found[0, 0]), 2) for n, found in middle.items()},
        "regret": {str(n): round(float(found[1, 0]), 2) for n, found in middle.items()},
        "score": {str(n): round(float(found[2, 0]), 4) for n, found in middle.items()},
        "volume_after_100_policies": round(float(np.median(plain)), 2),
        "seconds": round(float(np.median([account["seconds"] for account, _ in runs])), 1),
        "policies_on_all_examples": float(np.median([len(account["found"]) for account, _ in runs])),
        "spent_on": {
            name: round(float(np.median([a["parts"].get(name, 0.0) for a, _ in runs])), 2) for name in sorted(parts)
        },
    }


def equivalents(runs: Sequence[tuple[Mapping[str, Any], Truth]], level: float) -> float | None:
    """Return the median of the full-evaluation equivalents after which runs reach a hypervolume; None: most never."""
    median = float(np.median([first_at(account["found"], truth, level) for account, truth in runs]))
    return round(median, 1) if np.isfinite(median) else None


def table(summaries: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the table of one world in Markdown; a number in brackets: so many seeds only went so far."""
    marks = [str(n) for n in CHECKPOINTS]
    head = ["searcher", *(f"HV @{n}" for n in marks), *(f"regret @{n}" for n in (*marks, "60"))]
    rows = []
    for name, found in summaries.items():
        most = max(found["seeds"].values(), default=0)
        fewer = {n: "" if count == most else f" ({count})" for n, count in found["seeds"].items()}
        volumes = [f"{found['volume'][n]:.1f}{fewer[n]}" if n in found["volume"] else "" for n in marks]
        regrets = [f"{found['regret'][n]:.1f}" if n in found["regret"] else "" for n in (*marks, "60")]
        rows.append([name, *volumes, *regrets])
    return _markdown(head, rows)


def scores(summaries: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the best score under the budget of one world's searchers in Markdown."""
    marks = [str(n) for n in CHECKPOINTS]
    rows = [
        [name, *(f"{found['score'][n]:.3f}" if n in found["score"] else "" for n in marks)]
        for name, found in summaries.items()
    ]
    return _markdown(["searcher", *(f"score @{n}" for n in marks)], rows)


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return [lines[0], "|" + "---|" * len(head), *lines[1:]]

"""From what searchers found to the printed figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from world import Truth

from autoprune.engine.posterior import expected_scores
from autoprune.front.pareto import non_dominated, pick_best

CHECKPOINTS = (10, 25, 50, 100, 200)
Row = Sequence[Any]
"""spent, ratio, score as seen, true score, digest, KL, drop, interval of the drop."""


def volume(rows: Sequence[Row], truth: Truth) -> float:
    """Return the true hypervolume of what the searcher would call its front, in % of the true front's."""
    if not rows:
        return 0.0
    ratio, seen, score = ([row[i] for row in rows] for i in (1, 2, 3))
    front = non_dominated(ratio, seen)
    return 100 * truth.volume([ratio[i] for i in front], [score[i] for i in front])


def regret(rows: Sequence[Row], truth: Truth, budget: float) -> float:
    """Return points of true score lost by the policy that the searcher would pick; by guessing, where it has none."""
    ratio, seen = [row[1] for row in rows], [row[2] for row in rows]
    best = pick_best(ratio, seen, limit=budget) if rows else None
    return 100 * (truth.best(budget) - (truth.chance if best is None else rows[best][3]))


def promised_regret(rows: Sequence[Row], truth: Truth, budget: float) -> float:
    """Return the regret of what the product would promise: the front's highest expected score, not the highest seen."""
    columns = ("trial", "ratio", "score", "true", "kl", "drop", "drop_ci95")
    known = [dict(zip(columns, (n, *row[1:4], *row[5:]), strict=True)) for n, row in enumerate(rows, 1)]
    inside = [one for one in known if one["ratio"] <= budget]
    front = [inside[i] for i in non_dominated([one["ratio"] for one in inside], [one["score"] for one in inside])]
    expected = expected_scores(known, front)
    best = front[int(np.argmax(expected))]["true"] if front else truth.chance
    return 100 * (truth.best(budget) - float(best))


def curve(rows: Sequence[Row], truth: Truth, budget: float, at: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return hypervolume and regret after so many full-evaluation equivalents."""
    known = [[row for row in rows if row[0] <= spent] for spent in at]
    return [volume(found, truth) for found in known], [regret(found, truth, budget) for found in known]


def first_at(rows: Sequence[Row], truth: Truth, level: float) -> float:
    """Return the full-evaluation equivalents after which the hypervolume is at least ``level``; infinite: never."""
    for count, row in enumerate(rows, 1):
        if volume(rows[:count], truth) >= level:
            return float(row[0])
    return float("inf")


def summary(
    runs: Sequence[tuple[Mapping[str, Any], Truth]], budget: float, limit: float, promises: bool = False
) -> dict[str, Any]:
    """Return the medians over seeds of one searcher's figures.

    Args:
        runs: Account (``Account.to_dict``) and truth per seed.
        budget: Share of dense.
        limit: Full-evaluation equivalents after which they were stopped; nothing is said of what came later.
        promises: Whether the regret of what the product would promise is told beside that of the highest score.
    """
    at = [n for n in (*CHECKPOINTS, 60) if n <= limit]
    curves = np.asarray([curve(account["found"], truth, budget, at) for account, truth in runs])
    middle = np.median(curves, axis=0)
    plain = [volume(account["found"][:100], truth) for account, truth in runs]
    parts = {name for account, _ in runs for name in account["parts"]}
    promised = {
        str(n): round(float(np.median([promised_regret(_by(n, account), truth, budget) for account, truth in runs])), 2)
        for n in (at if promises else ())
    }
    return {
        "seeds": len(runs),
        "volume": {str(n): round(float(middle[0, i]), 2) for i, n in enumerate(at)},
        "regret": {str(n): round(float(middle[1, i]), 2) for i, n in enumerate(at)},
        **({"regret_of_the_promise": promised} if promises else {}),
        "volume_after_100_policies": round(float(np.median(plain)), 2),
        "seconds": round(float(np.median([account["seconds"] for account, _ in runs])), 1),
        "policies_on_all_examples": float(np.median([len(account["found"]) for account, _ in runs])),
        "spent_on": {
            name: round(float(np.median([a["parts"].get(name, 0.0) for a, _ in runs])), 2) for name in sorted(parts)
        },
    }


def _by(spent: float, account: Mapping[str, Any]) -> list[Row]:
    return [row for row in account["found"] if row[0] <= spent]


def equivalents(runs: Sequence[tuple[Mapping[str, Any], Truth]], level: float) -> float | None:
    """Return the median of the full-evaluation equivalents after which runs reach a hypervolume; None: most never."""
    median = float(np.median([first_at(account["found"], truth, level) for account, truth in runs]))
    return round(median, 1) if np.isfinite(median) else None


def table(summaries: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the table of one world in Markdown."""
    marks = [str(n) for n in CHECKPOINTS]
    head = ["searcher", *(f"HV @{n}" for n in marks), *(f"regret @{n}" for n in (*marks, "60"))]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, found in summaries.items():
        volumes = [f"{found['volume'][n]:.1f}" if n in found["volume"] else "" for n in marks]
        regrets = [f"{found['regret'][n]:.1f}" if n in found["regret"] else "" for n in (*marks, "60")]
        lines.append("| " + " | ".join([name, *volumes, *regrets]) + " |")
    return lines

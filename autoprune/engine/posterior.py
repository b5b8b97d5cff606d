"""Which of the best policies to promise: the highest of noisy scores is partly luck.

KL to dense is far less noisy than a score. A monotone regression of the drop on KL over all scored policies
says what to expect of each; its own score corrects that by as much as its noise allows (empirical Bayes:
Efron and Morris, 1973).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression

_FEWEST = 5  # policies from which a regression says anything
_WIDTH = 3.92  # of a 95 % interval, in standard deviations


def expected_scores(found: Sequence[Mapping[str, Any]], chosen: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return the posterior mean of the score of each chosen row.

    Args:
        found: Rows of all policies scored on all examples, dense among them or not.
        chosen: Those to judge; their scores as they are where too few are known.
    """
    scores = [float(row["score"]) for row in chosen]
    known = [row for row in found if row["trial"] != 0 and row["kl"] is not None]
    if not chosen or len(known) < _FEWEST or any(row["kl"] is None for row in chosen):
        return scores
    model = IsotonicRegression(increasing=True, out_of_bounds="clip").fit(_column(known, "kl"), _column(known, "drop"))
    residual = _column(known, "drop") - model.predict(_column(known, "kl"))
    between = max(0.0, float(np.mean(residual**2) - np.mean(_noise(known))))
    own, noise = _column(chosen, "drop"), _noise(chosen)
    trust = between / np.maximum(between + noise, 1e-12)
    drop = trust * own + (1 - trust) * model.predict(_column(chosen, "kl"))
    return [score + float(seen - expected) for score, seen, expected in zip(scores, own, drop, strict=True)]


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> NDArray[np.float64]:
    return np.asarray([row[name] for row in rows], dtype=np.float64)


def _noise(rows: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    """Return the sampling variance of each row's drop, from its interval."""
    ends = np.asarray([row["drop_ci95"] for row in rows], dtype=np.float64).reshape(len(rows), 2)
    return np.asarray(((ends[:, 1] - ends[:, 0]) / _WIDTH) ** 2, dtype=np.float64)

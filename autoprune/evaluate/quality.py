"""Quality of a policy from logits: score, drop with a paired interval, agreement, KL to dense.

Rank by KL, report by score: KL needs no labels and is far less noisy than the score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable

Floats = NDArray[np.float64]
Logits = NDArray[np.float32]
_RESAMPLES = 1000


@dataclass(frozen=True)
class Quality:
    """A policy's quality on the first ``n_examples`` held-out examples.

    Attributes:
        n_examples: Examples scored.
        score: The metric of the pruned model (higher is better, 0 to 1).
        dense_score: The metric of dense on the same examples.
        drop: ``dense_score - score``, in the metric's own unit.
        drop_ci95: Paired 95 % bootstrap interval of the drop.
        agreement: Share of examples where the pruned model decides as dense does.
        kl: Mean KL(dense || pruned) in nats (>= 0).
    """

    n_examples: int
    score: float
    dense_score: float
    drop: float
    drop_ci95: tuple[float, float]
    agreement: float
    kl: float


def kl_per_example(dense: Logits, pruned: Logits) -> Floats:
    """Return KL(dense || pruned) per example in nats, shape (n,).

    Args:
        dense: Logits of dense, shape (n, classes).
        pruned: Logits of the pruned model, same shape.
    """
    log_p, log_q = _log_softmax(dense), _log_softmax(pruned)
    divergence: Floats = np.sum(np.exp(log_p) * (log_p - log_q), axis=1)
    return np.maximum(divergence, 0.0)


def _log_softmax(logits: Logits) -> Floats:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    normalised: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normalised


def measure_quality(
    dense: Logits,
    pruned: Logits,
    labels: NDArray[np.int64] | None,
    score: Callable[[NDArray[np.int64], NDArray[np.int64]], float],
    seed: int = 0,
    *,
    additive: bool = False,
) -> Quality:
    """Compare the pruned model with dense on the same examples.

    Args:
        dense: Logits of dense, shape (n, classes).
        pruned: Logits of the pruned model, same shape and order.
        labels: True classes, shape (n,); None scores agreement with dense.
        score: The metric, from (predictions, labels) to a number, higher is better.
        seed: Seed of the bootstrap.
        additive: Whether the metric is the share of examples that are right (accuracy, agreement): then
            the bootstrap needs no resampled predictions, which is what a search spends most of its time on.
    """
    dense_class = dense.argmax(axis=1).astype(np.int64)
    pruned_class = pruned.argmax(axis=1).astype(np.int64)
    truth = dense_class if labels is None else labels
    dense_score, own = score(dense_class, truth), score(pruned_class, truth)
    if additive:
        interval = _hits_interval(dense_class == truth, pruned_class == truth, seed)
    else:
        interval = _drop_interval(dense_class, pruned_class, truth, score, seed)
    return Quality(
        n_examples=len(dense),
        score=own,
        dense_score=dense_score,
        drop=dense_score - own,
        drop_ci95=interval,
        agreement=float(np.mean(dense_class == pruned_class)),
        kl=float(np.mean(kl_per_example(dense, pruned))),
    )


def _hits_interval(dense: NDArray[np.bool_], pruned: NDArray[np.bool_], seed: int) -> tuple[float, float]:
    """Return what ``_drop_interval`` would for a share of hits: a resample of examples is a multinomial draw.

    Args:
        dense: Where dense is right, shape (n,).
        pruned: Where the pruned model is right, shape (n,).
        seed: Seed of the bootstrap.
    """
    n = len(dense)
    lost, won = int(np.sum(dense & ~pruned)), int(np.sum(pruned & ~dense))
    draws = np.random.default_rng(seed).multinomial(n, [lost / n, won / n, (n - lost - won) / n], size=_RESAMPLES)
    low, high = np.percentile((draws[:, 0] - draws[:, 1]) / n, [2.5, 97.5])
    return float(low), float(high)


def _drop_interval(
    dense: NDArray[np.int64],
    pruned: NDArray[np.int64],
    truth: NDArray[np.int64],
    score: Callable[[NDArray[np.int64], NDArray[np.int64]], float],
    seed: int,
) -> tuple[float, float]:
    """Percentile bootstrap over examples (Efron 1979): both models see the same resample."""
    if np.array_equal(dense, pruned):
        return (0.0, 0.0)
    rng = np.random.default_rng(seed)
    drops = []
    for _ in range(_RESAMPLES):
        rows = rng.integers(0, len(truth), len(truth))
        drops.append(score(dense[rows], truth[rows]) - score(pruned[rows], truth[rows]))
    low, high = np.percentile(drops, [2.5, 97.5])
    return float(low), float(high)

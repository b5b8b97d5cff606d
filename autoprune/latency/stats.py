"""Percentiles, the ratio of two latency statistics, and its bootstrap interval. Numbers only: no torch, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from autoprune.errors import ConfigError

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

NS_PER_MS = 1e6
QUANTILES: dict[str, float | None] = {"p50": 0.50, "p95": 0.95, "p99": 0.99, "mean": None}
_LEVEL_SAMPLES = 24  # samples under the running median that follows the machine's slow changes
_MOVES = 0.5  # of the noise
_IQR_OF_NORMAL = 1.349  # standard deviations
_FAR_OUT = 3.0  # Tukey's outer fence, in interquartile ranges over the third quartile


@dataclass(frozen=True)
class LatencyStats:
    """Latency samples in a few numbers, all in milliseconds.

    Attributes:
        p50: Median.
        p95: 95th percentile.
        p99: 99th percentile.
        mean: Arithmetic mean.
        iqr: Third quartile minus first.
    """

    p50: float
    p95: float
    p99: float
    mean: float
    iqr: float

    @classmethod
    def of_ns(cls, samples: npt.ArrayLike) -> LatencyStats:
        """Return the statistics of samples in nanoseconds, of any shape, at least one."""
        values = np.asarray(samples, dtype=np.float64).ravel() / NS_PER_MS
        q25, p50, q75, p95, p99 = (float(v) for v in np.quantile(values, (0.25, 0.5, 0.75, 0.95, 0.99)))
        return cls(p50=p50, p95=p95, p99=p99, mean=float(values.mean()), iqr=q75 - q25)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LatencyStats:
        """Read what ``to_dict`` wrote."""
        return cls(**{name: float(value) for name, value in data.items()})

    def to_dict(self) -> dict[str, float]:
        """Return the statistics as JSON types, in milliseconds."""
        return asdict(self)

    def get(self, statistic: str) -> float:
        """Return one statistic in milliseconds; an unknown name is a ``ConfigError``."""
        check_statistic(statistic)
        return float(getattr(self, statistic))


def check_statistic(statistic: str) -> str:
    """Return ``statistic`` if it is one of p50, p95, p99 and mean; raise ``ConfigError`` if not."""
    if statistic not in QUANTILES:
        raise ConfigError(f"{statistic!r} is no latency statistic.", f"Known: {', '.join(QUANTILES)}.")
    return statistic


def row_statistic(samples: FloatArray, statistic: str) -> FloatArray:
    """Return a statistic of each row, with numpy's linear interpolation.

    Args:
        samples: Shape (rows, samples).
        statistic: Name of the statistic.

    Returns:
        Shape (rows,), in the unit of the samples.
    """
    quantile = QUANTILES[check_statistic(statistic)]
    if quantile is None:
        return np.asarray(samples.mean(axis=1))
    position = (samples.shape[1] - 1) * quantile
    low = int(position)
    high = min(low + 1, samples.shape[1] - 1)
    ordered = np.partition(samples, (low, high), axis=1)
    return np.asarray(ordered[:, low] + (ordered[:, high] - ordered[:, low]) * (position - low))


def ratio(dense: npt.ArrayLike, policy: npt.ArrayLike, statistic: str) -> float:
    """Return S(policy samples) / S(dense samples): the definition that autoprune reports."""
    rows = [np.asarray(side, dtype=np.float64).reshape(1, -1) for side in (policy, dense)]
    return float(row_statistic(rows[0], statistic)[0] / row_statistic(rows[1], statistic)[0])


def ratio_interval(
    dense: npt.ArrayLike,
    policy: npt.ArrayLike,
    statistic: str,
    *,
    level: float = 0.95,
    resamples: int = 400,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the confidence interval of ``ratio`` on these inputs.

    The workload's inputs are fixed (stratified, not drawn), so the noise of timing is what is
    resampled, by a residual bootstrap over rounds:

    - The machine's slow course (drift, a neighbour that wakes up) is estimated by a running median
      of both sides and stays in place. Resampling it as if it were chance would widen the interval
      for something that pairing cancels.
    - The residuals are resampled in whole rounds, dense and policy together, so that what disturbs
      neighbouring samples stays together and each input keeps its share.
    - On a steady machine the ends are percentiles of the resampled ratios, which stay right where a
      median may jump between the two modes of bimodal noise. On a machine whose course moves more
      than half as much as the noise, they are the ratio times exp(-+ t * sd) of the resampled log
      ratios: there the resamples centre on a smoother estimate than the one reported, and their
      percentiles covered 100 %. Both are widened for few rounds (Hesterberg 2015, "What Teachers
      Should Know About the Bootstrap", section 5.3).

    Args:
        dense: Nanoseconds (> 0), shape (rounds, inputs), rounds in the order of time.
        policy: Same shape and inputs.
        statistic: ``p50``, ``p95``, ``p99`` or ``mean``.
        level: Confidence level in (0, 1).
        resamples: Bootstrap resamples.
        seed: Of the resampling; equal seeds give equal intervals.

    Returns:
        Low and high end; (0, inf) with a single round, which says nothing about noise.
    """
    sides = np.stack([np.asarray(dense, dtype=np.float64), np.asarray(policy, dtype=np.float64)])
    rounds = sides.shape[1]
    centre = ratio(sides[0], sides[1], statistic)
    if rounds < 2:
        return 0.0, float("inf")
    course = machine_course(sides[0], sides[1])[None, :, None]
    drawn = np.random.default_rng(seed).integers(0, rounds, (resamples, rounds))
    redrawn = [((side / course[0])[drawn] * course).reshape(resamples, -1) for side in sides]
    resampled = [row_statistic(rows, statistic) for rows in redrawn]
    logs = np.log(resampled[1] / resampled[0])
    widened = student_quantile(0.5 + level / 2, rounds - 1) * float(np.sqrt(rounds / (rounds - 1)))
    if _moves(course, sides / course):
        reach = widened * float(np.std(logs))
        return float(centre * np.exp(-reach)), float(centre * np.exp(reach))
    tail = NormalDist().cdf(-widened)
    low, high = (float(v) for v in np.exp(np.quantile(logs, (tail, 1 - tail))))
    return min(low, centre), max(high, centre)


def _moves(course: FloatArray, steady: FloatArray) -> bool:
    """Whether the machine's course moves by more than half the noise around it.

    Args:
        course: Shape (1, rounds, 1).
        steady: Samples over the course, shape (2, rounds, inputs).
    """
    logs = np.log(steady)
    q25, q75 = np.quantile(logs - np.median(logs, axis=1, keepdims=True), (0.25, 0.75))
    return bool(np.std(np.log(course)) > _MOVES * (q75 - q25) / _IQR_OF_NORMAL)


def machine_course(dense: FloatArray, policy: FloatArray) -> FloatArray:
    """Return how slow the machine was in each round, relative to its median: shape (rounds,), around 1.

    Args:
        dense: Shape (rounds, inputs), positive.
        policy: Same shape.
    """
    logs = np.concatenate([np.log(dense), np.log(policy)], axis=1)
    residuals = logs - np.median(logs, axis=0)
    half = max(1, -(-_LEVEL_SAMPLES // residuals.shape[1])) // 2
    rows = range(residuals.shape[0])
    return np.exp([np.median(residuals[max(0, row - half) : row + half + 1]) for row in rows])


def student_quantile(probability: float, degrees: int) -> float:
    """Return Student's t quantile (Abramowitz and Stegun 26.7.5; within 1 % from 4 degrees of freedom on)."""
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return float(z + sum(term / degrees**power for power, term in enumerate(terms, start=1)))


def drift(dense: npt.ArrayLike) -> float:
    """Return how much slower dense became: last third of the rounds over the first third, minus 1.

    Args:
        dense: Shape (rounds, inputs), rounds in the order of time. Under three rounds the answer is 0.
    """
    values = np.asarray(dense, dtype=np.float64)
    third = values.shape[0] // 3
    if not third:
        return 0.0
    levels = np.median(values / np.median(values, axis=0), axis=1)
    return float(np.median(levels[-third:]) / np.median(levels[:third]) - 1)


def count_outliers(samples: npt.ArrayLike) -> int:
    """Count samples over Tukey's outer fence, each relative to its own input's median. They are kept.

    Args:
        samples: Shape (rounds, inputs), positive.
    """
    values = np.asarray(samples, dtype=np.float64)
    relative = (values / np.median(values, axis=0)).ravel()
    q25, q75 = np.quantile(relative, (0.25, 0.75))
    return int(np.count_nonzero(relative > q75 + _FAR_OUT * max(q75 - q25, 1e-3)))

"""``PairedTiming``: raw samples of dense and policy taken in turn, and what follows from them."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from autoprune.errors import MeasurementError
from autoprune.latency import stats
from autoprune.latency.stats import IntArray, LatencyStats

_FORMAT = 1
_RESAMPLES = 1000
_WIDEST = 2.0  # times the half width that was asked for


@dataclass(frozen=True, eq=False)
class PairedTiming:
    """Samples of one measurement. All of them are kept, outliers included.

    Attributes:
        dense_ns: Nanoseconds per forward, int64, shape (rounds, inputs), rounds in the order of time.
        policy_ns: Same shape; sample (r, i) was taken right before or after ``dense_ns[r, i]``, or with other policies'
            samples of that input in between.
        statistic: The statistic whose ratio was asked for.
        half_width: Relative half width of its 95 % interval that was asked for.
        reference: Ratio under which that is relative to this ratio, see ``MeterSettings``.
        max_drift: Drift of dense beyond which the machine counts as disturbed.
        seconds: Wall-clock time that dense and the policy took, warm-up included. Other policies that were timed
            in the same rounds are not counted.
        warmup_rounds: Rounds that were run before and not counted.
        warmed_up: Whether the warm-up ended because nothing became faster any more.

    Raises:
        MeasurementError: The shapes differ, or there is no sample.
    """

    dense_ns: IntArray
    policy_ns: IntArray
    statistic: str = "p50"
    half_width: float = 0.03
    reference: float = 0.0
    max_drift: float = 0.2
    seconds: float = 0.0
    warmup_rounds: int = 0
    warmed_up: bool = True
    _intervals: dict[tuple[str, float], tuple[float, float]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for name in ("dense_ns", "policy_ns"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.int64))
        if self.dense_ns.ndim != 2 or self.dense_ns.shape != self.policy_ns.shape or not self.dense_ns.size:
            raise MeasurementError(
                f"Paired samples need one shape (rounds, inputs), not {self.dense_ns.shape} and {self.policy_ns.shape}."
            )

    @property
    def rounds(self) -> int:
        """How often each input was timed."""
        return int(self.dense_ns.shape[0])

    @property
    def n_inputs(self) -> int:
        """How many inputs were timed."""
        return int(self.dense_ns.shape[1])

    def stats(self, which: Literal["dense", "policy"]) -> LatencyStats:
        """Return the statistics of one side, over all rounds and inputs, in milliseconds."""
        return LatencyStats.of_ns(self.dense_ns if which == "dense" else self.policy_ns)

    def ratio(self, statistic: str | None = None) -> float:
        """Return S(policy) / S(dense); S is the statistic asked for unless one is given."""
        return stats.ratio(self.dense_ns, self.policy_ns, statistic or self.statistic)

    def interval(self, statistic: str | None = None, level: float = 0.95) -> tuple[float, float]:
        """Return the confidence interval of ``ratio``, see ``stats.ratio_interval``."""
        key = (statistic or self.statistic, level)
        if key not in self._intervals:
            self._intervals[key] = stats.ratio_interval(self.dense_ns, self.policy_ns, key[0], level=level)
        return self._intervals[key]

    def dense_interval(self, statistic: str, level: float = 0.95) -> tuple[float, float]:
        """Return the interval of dense's own statistic in ms: a bootstrap over rounds."""
        rounds = self.dense_ns / 1e6
        chosen = np.random.default_rng(0).integers(0, len(rounds), (_RESAMPLES, len(rounds)))
        drawn = stats.row_statistic(rounds[chosen].reshape(_RESAMPLES, -1), statistic)
        low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    def relative_half_width(self, statistic: str | None = None) -> float:
        """Return half the 95 % interval's width over the ratio."""
        low, high = self.interval(statistic)
        return (high - low) / 2 / self.ratio(statistic)

    @property
    def wanted_half_width(self) -> float:
        """Half the interval's width over the ratio that was asked for, at this ratio."""
        return self.half_width * min(_WIDEST, max(1.0, self.reference / self.ratio()))

    @property
    def narrow(self) -> bool:
        """Whether the interval is as narrow as was asked."""
        return self.relative_half_width() <= self.wanted_half_width

    @cached_property
    def drift(self) -> float:
        """How much slower dense became while measuring (0.1 = 10 % slower), see ``stats.drift``."""
        return stats.drift(self.dense_ns)

    @cached_property
    def outliers(self) -> int:
        """How many samples of both sides lie far out; they are kept."""
        return stats.count_outliers(self.dense_ns) + stats.count_outliers(self.policy_ns)

    @property
    def drifted(self) -> bool:
        """Whether dense drifted by more than ``max_drift``."""
        return abs(self.drift) > self.max_drift

    @property
    def noisy(self) -> bool:
        """Whether the machine was disturbed: dense drifted, or the interval stayed wider than asked."""
        return self.noise_cause is not None

    @cached_property
    def noise_cause(self) -> str | None:
        """What disturbed the measurement, in words, or None."""
        causes = []
        if self.drifted:
            way = "slower" if self.drift > 0 else "faster"
            causes.append(f"dense became {abs(self.drift):.0%} {way} meanwhile (another load, or the clock rate)")
        if not self.narrow:
            dense = self.stats("dense")
            causes.append(
                f"the {self.statistic} ratio is known to ±{self.relative_half_width():.1%} only after "
                f"{self.rounds} rounds (wanted ±{self.wanted_half_width:.1%}; dense p50 {dense.p50:.1f} ms, "
                f"p95 {dense.p95:.1f} ms, {self.outliers} outliers)"
            )
        if causes and not self.warmed_up:
            causes.append("things still became faster when the warm-up ended")
        return "; ".join(causes) or None

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the raw samples as JSON types, for reports and rows."""
        low, high = self.interval()
        return {
            "statistic": self.statistic,
            "ratio": self.ratio(),
            "ratio_ci95": [low, high],
            "dense": self.stats("dense").to_dict(),
            "policy": self.stats("policy").to_dict(),
            "rounds": self.rounds,
            "n_inputs": self.n_inputs,
            "drift": self.drift,
            "outliers": self.outliers,
            "noisy": self.noisy,
            "noise_cause": self.noise_cause,
            "seconds": self.seconds,
            "warmup_rounds": self.warmup_rounds,
        }

    def to_bytes(self) -> bytes:
        """Return all samples and settings, compressed (npz, no pickle)."""
        meta = {
            "format": _FORMAT,
            "statistic": self.statistic,
            "half_width": self.half_width,
            "reference": self.reference,
            "max_drift": self.max_drift,
            "seconds": self.seconds,
            "warmup_rounds": self.warmup_rounds,
            "warmed_up": self.warmed_up,
        }
        buffer = io.BytesIO()
        text = np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8)
        np.savez_compressed(buffer, dense_ns=self.dense_ns, policy_ns=self.policy_ns, meta=text)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> PairedTiming:
        """Read what ``to_bytes`` wrote.

        Raises:
            MeasurementError: The bytes are damaged, or a newer autoprune wrote them.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                meta = json.loads(archive["meta"].tobytes())
                dense, policy = archive["dense_ns"], archive["policy_ns"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise MeasurementError(f"These are no timing samples: {error}.") from None
        if meta.pop("format", None) != _FORMAT:
            raise MeasurementError("These timing samples have another format.", "Update autoprune.")
        return cls(dense_ns=dense, policy_ns=policy, **meta)

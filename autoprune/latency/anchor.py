"""The study's dense latency: what ratios are turned into milliseconds with, and how far the machine left it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from autoprune.errors import MeasurementError
from autoprune.latency.stats import LatencyStats
from autoprune.latency.timing import PairedTiming

_RECENT = 3


@dataclass
class DenseAnchor:
    """Dense latency of a study, in milliseconds.

    A policy's latency is its measured ratio times the anchor, so a machine that drifts during a
    study does not reorder its candidates. How far dense has drifted is recorded at each measurement.

    Attributes:
        dense: Statistics of dense at the anchor.
        tolerance: Drift beyond which the machine counts as another one than at the anchor.
        drifts: Dense p50 of each measurement over the anchor's, minus 1, in order.
    """

    dense: LatencyStats
    tolerance: float = 0.1
    drifts: list[float] = field(default_factory=list)

    def drift(self, timing: PairedTiming) -> float:
        """Return the drift of a measurement's dense side (0.1 = 10 % slower than the anchor)."""
        return timing.stats("dense").p50 / self.dense.p50 - 1

    def observe(self, timing: PairedTiming) -> float:
        """Record a measurement's dense side and return its drift."""
        self.drifts.append(self.drift(timing))
        return self.drifts[-1]

    def latency_ms(self, timing: PairedTiming, statistic: str | None = None) -> float:
        """Return the policy's latency normalised to the anchor: ratio times anchored dense."""
        name = statistic or timing.statistic
        return timing.ratio(name) * self.dense.get(name)

    @property
    def moved(self) -> bool:
        """Whether dense stayed away from the anchor, to one side, in the last three measurements."""
        recent = self.drifts[-_RECENT:]
        if len(recent) < _RECENT:
            return False
        return min(recent) > self.tolerance or max(recent) < -self.tolerance

    def renewed(self, timings: Sequence[PairedTiming]) -> DenseAnchor:
        """Return an anchor on the dense samples of recent measurements; figures of the old one keep theirs.

        Raises:
            MeasurementError: There is no measurement.
        """
        if not timings:
            raise MeasurementError("Dense cannot be anchored without a measurement.")
        samples = np.concatenate([timing.dense_ns.ravel() for timing in timings])
        return DenseAnchor(LatencyStats.of_ns(samples), self.tolerance)

    def describe(self) -> str:
        """Return the drift in words, empty without a measurement."""
        if not self.drifts:
            return ""
        low, high = min(self.drifts), max(self.drifts)
        return f"dense stayed at {low:+.0%} to {high:+.0%} of {self.dense.p50:.1f} ms over {len(self.drifts)} timings"

    def to_dict(self) -> dict[str, Any]:
        """Return the anchor as JSON types."""
        return {"dense": self.dense.to_dict(), "tolerance": self.tolerance, "drifts": list(self.drifts)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DenseAnchor:
        """Read what ``to_dict`` wrote."""
        return cls(LatencyStats.from_dict(data["dense"]), float(data["tolerance"]), list(data["drifts"]))

"""Drift of dense across a study: recorded with each measurement, said in words, and never told to Optuna.

Every latency of a study is a ratio, measured in pairs, times one dense figure: the anchor that the probe
took when the study began. Ratios are what candidates are compared by and what the budget is judged by,
so the anchor never changes within a study, even when the machine does: figures told on Monday and on
Tuesday stay comparable. What does change is how many milliseconds a ratio means on the machine as it is
now. When dense has stayed more than 10 % off the latest anchor in three measurements in a row, a new
anchor is taken from those three; the user is told, and the result document carries it as
``dense.drift.latency_ms``. A policy's latency on the machine as it is now is its ratio times that figure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from autoprune.engine.figures import STATISTICS
from autoprune.latency.anchor import DenseAnchor
from autoprune.latency.stats import LatencyStats

if TYPE_CHECKING:
    from autoprune.latency.timing import PairedTiming
    from autoprune.store.repository import Store
    from autoprune.store.rows import StoredMeasurement

_RECENT = 3


@dataclass
class DenseWatch:
    """Watches dense over the measurements of a study.

    Attributes:
        first: Dense as the probe found it: what drifts are relative to, and what milliseconds are told with.
        latest: The same, or the anchor that was taken when dense had moved last.
    """

    first: DenseAnchor
    latest: DenseAnchor
    _recent: list[PairedTiming] = field(default_factory=list)

    @classmethod
    def of(cls, dense: LatencyStats, latest: LatencyStats | None = None) -> DenseWatch:
        """Return a watch on a study's dense latency, and on the latest anchor where an earlier sitting took one."""
        return cls(DenseAnchor(dense), DenseAnchor(latest or dense))

    def drift(self, timing: PairedTiming) -> float:
        """Return dense p50 of a measurement over the study's anchor, minus 1, without taking it."""
        return self.first.drift(timing)

    def observe(self, timing: PairedTiming) -> tuple[dict[str, Any], str | None]:
        """Take a measurement; of those that share runs of dense, one.

        Returns:
            What is kept with it (``drift``: dense p50 over the study's anchor, minus 1; ``anchor``: the new
            one, if dense has moved), and what the user should be told, or None.
        """
        kept: dict[str, Any] = {"drift": self.first.observe(timing)}
        self.latest.observe(timing)
        self._recent = [*self._recent, timing][-_RECENT:]
        if not self.latest.moved:
            return kept, None
        self.latest = self.latest.renewed(self._recent)
        kept["anchor"] = self.latest.dense.to_dict()
        return kept, self._words()

    def _words(self) -> str:
        then, now = self.first.dense.p50, self.latest.dense.p50
        return (
            f"drift      dense stays at {now:.1f} ms now, {now / then - 1:+.0%} against {then:.1f} ms when the study "
            f"began; ratios are not touched by that, and milliseconds remain shares of {then:.1f} ms"
        )


def restored_watch(store: Store, study: str, dense: LatencyStats) -> DenseWatch:
    """Return the watch of a study that may have been searched before."""
    anchors = [m.extra["anchor"] for m in _searched(store, study) if "anchor" in m.extra]
    return DenseWatch.of(dense, LatencyStats.from_dict(anchors[-1]) if anchors else None)


def drift_facts(store: Store, study: str) -> dict[str, Any]:
    """Return the drift of a study's dense latency, for its document.

    Returns:
        ``timings``: search measurements so far; ``lowest``, ``highest``, ``last``: drift of dense p50 against
        the study's anchor (0.1 = 10 % slower), None before the first; ``moved``: whether dense left the anchor
        for good at some time; ``latency_ms``: then dense as it was found last (p50, p95, mean), else None.
    """
    found = [m.extra for m in _searched(store, study) if "drift" in m.extra]
    drifts = [float(extra["drift"]) for extra in found]
    anchors = [extra["anchor"] for extra in found if "anchor" in extra]
    return {
        "timings": len(drifts),
        "lowest": min(drifts, default=None),
        "highest": max(drifts, default=None),
        "last": drifts[-1] if drifts else None,
        "moved": bool(anchors),
        "latency_ms": {name: anchors[-1][name] for name in STATISTICS} if anchors else None,
    }


def _searched(store: Store, study: str) -> list[StoredMeasurement]:
    return store.measurements(study, kind="search", samples=False)

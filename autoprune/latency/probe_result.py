"""``ProbeResult``: what the probe found, for people, for the database and for the search."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from autoprune.errors import MeasurementError
from autoprune.latency.cost_table import CostTable
from autoprune.latency.stats import LatencyStats
from autoprune.latency.sweep import SweepPoint
from autoprune.latency.timing import PairedTiming
from autoprune.policy import PruningPolicy

_SCHEMA = 1


@dataclass(frozen=True)
class ProbeResult:
    """What the probe found. Latencies are in milliseconds.

    Attributes:
        dense: Statistics of dense over the workload's inputs.
        dense_timing: Raw samples of dense and of the floor policy, in pairs.
        sweep: Dense on fewer and fewer tokens of the longest input.
        floor_policy: The strongest useful policy: everything but the protected tokens leaves as early
            as the family allows (at the input wherever ids exist), scored by a scorer that costs next
            to nothing, the last layer computing the first token alone where that is exact.
        floor_ms: Its measured latency, as ratio times dense, in the statistic asked for: the floor.
            No policy of this model can be faster on this workload; a budget under it cannot be met.
        floor_ratio: Measured latency of the floor policy over that of dense.
        floor_ratio_ci: Its 95 % interval.
        cost_table: Predicts the latency of any policy.
        scorer_ms: What each scorer costs at full length, by ``label@input`` or ``label@layer``.
        notes: Flat regions, disturbances and what could not be measured, in words.
        seconds: What the probe took.
        end_to_end_ms: Median of tokenising and running one input, or None if not asked for.
        memory_peak: Bytes, or None: what a fresh process holds at most while it runs the model.
        model_bytes: Bytes of weights and buffers.
        dense_flops: Floating-point operations of dense on the longest input, or None if not countable.
        statistic: The statistic of the floor.
    """

    dense: LatencyStats
    dense_timing: PairedTiming
    sweep: list[SweepPoint]
    floor_policy: PruningPolicy
    floor_ms: float
    floor_ratio: float
    floor_ratio_ci: tuple[float, float]
    cost_table: CostTable
    scorer_ms: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    end_to_end_ms: float | None = None
    memory_peak: int | None = None
    model_bytes: int = 0
    dense_flops: int | None = None
    statistic: str = "p50"

    def lines(self) -> list[str]:
        """Return the findings in lines for people."""
        low, high = self.floor_ratio_ci
        out = [f"dense      {self.dense.p50:.1f} ms p50, {self.dense.p95:.1f} p95, {self.dense.mean:.1f} mean"]
        if self.end_to_end_ms is not None:
            out.append(f"end to end {self.end_to_end_ms:.1f} ms with tokenisation")
        out += [f"{p.tokens:>5} tokens {p.ms:8.2f} ms  {p.ratio:6.1%} of dense" for p in reversed(self.sweep)]
        out.append(
            f"floor      {self.floor_ms:.1f} ms {self.statistic} ({self.floor_ratio:.1%} of dense, "
            f"95 % {low:.1%} to {high:.1%}): {self.floor_policy.describe()}"
        )
        if self.scorer_ms:
            costs = sorted(self.scorer_ms.items(), key=lambda item: item[1])
            out.append("scoring    " + ", ".join(f"{name} {ms:.2f} ms" for name, ms in costs))
        if self.cost_table.reducers:
            most = self.cost_table.tokens[-1]
            beyond = ", ".join(f"{name} {line.at(most):.2f} ms" for name, line in self.cost_table.reducers.items())
            out.append(f"reducing   beyond drop: {beyond}")
        if self.memory_peak is not None:
            out.append(f"memory     {self.memory_peak / 2**20:.0f} MiB at most, weights {self.model_bytes / 2**20:.0f}")
        return out + [f"note       {note}" for note in self.notes]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON types, raw samples in base64; ``from_dict`` gives it back."""
        return {
            "schema": _SCHEMA,
            "dense": self.dense.to_dict(),
            "dense_timing": base64.b64encode(self.dense_timing.to_bytes()).decode(),
            "sweep": [point.to_dict() for point in self.sweep],
            "floor_policy": self.floor_policy.to_dict(),
            "floor_ms": self.floor_ms,
            "floor_ratio": self.floor_ratio,
            "floor_ratio_ci": list(self.floor_ratio_ci),
            "cost_table": self.cost_table.to_dict(),
            "scorer_ms": dict(self.scorer_ms),
            "notes": list(self.notes),
            "seconds": self.seconds,
            "end_to_end_ms": self.end_to_end_ms,
            "memory_peak": self.memory_peak,
            "model_bytes": self.model_bytes,
            "dense_flops": self.dense_flops,
            "statistic": self.statistic,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ProbeResult:
        """Read what ``to_dict`` wrote.

        Raises:
            MeasurementError: Another version of autoprune wrote it.
        """
        if data.get("schema") != _SCHEMA:
            raise MeasurementError("The stored probe has another format.", "Probe again.")
        return cls(
            **{
                **{name: value for name, value in data.items() if name != "schema"},
                "dense": LatencyStats.from_dict(data["dense"]),
                "dense_timing": PairedTiming.from_bytes(base64.b64decode(data["dense_timing"])),
                "sweep": [SweepPoint.from_dict(point) for point in data["sweep"]],
                "floor_policy": PruningPolicy.from_dict(data["floor_policy"]),
                "floor_ratio_ci": tuple(data["floor_ratio_ci"]),
                "cost_table": CostTable.from_dict(data["cost_table"]),
            }
        )

"""What dense consumes besides time, for ``autoprune probe``: memory, operations, weights, energy, throughput."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from autoprune.latency.consumption import NOT_AVAILABLE, Energy, energy_per_input, throughput
from autoprune.latency.exclusive import timing_lock
from autoprune.latency.memory import forward_peak_bytes
from autoprune.latency.runners import make_runner, n_tokens
from autoprune.latency.threads import pin_threads

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.engine.timing import Timer
    from autoprune.latency.probe_result import ProbeResult


@dataclass(frozen=True)
class Consumption:
    """What dense consumes on the workload's longest input.

    Attributes:
        tokens: Tokens per row of that input.
        memory_peak: Bytes that a fresh process holds at most, or None where that cannot be measured.
        model_bytes: Bytes of weights and buffers.
        flops: Floating-point operations of one forward, or None where they cannot be counted.
        energy: Energy of one input, or why it is not available.
        throughput: Inputs per second by batch size.
    """

    tokens: int
    memory_peak: int | None
    model_bytes: int
    flops: int | None
    energy: Energy
    throughput: dict[int, float]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        return {**asdict(self), "throughput": {str(rows): rate for rows, rate in self.throughput.items()}}

    def lines(self) -> list[str]:
        """Return the findings in lines for people."""
        peak = NOT_AVAILABLE if self.memory_peak is None else f"{self.memory_peak / 2**20:.0f} MiB at most"
        count = NOT_AVAILABLE if self.flops is None else f"{self.flops / 1e9:.3g} GFLOP per forward"
        reason = f" ({self.energy.reason})" if self.energy.reason else ""
        out = [
            f"memory     {peak}, weights {self.model_bytes / 2**20:.0f} MiB",
            f"operations {count} of {self.tokens} tokens",
            f"energy     {self.energy.describe()}{'' if self.energy.joules is None else ' per input'}{reason}",
        ]
        rates = ", ".join(f"{rate:.1f}/s in batches of {rows}" for rows, rate in self.throughput.items())
        return [*out, f"throughput {rates}"] if rates else out


def consume(timer: Timer, found: ProbeResult, batches: Mapping[int, Mapping[str, Tensor]]) -> Consumption:
    """Measure what dense consumes, alone on the machine.

    Args:
        timer: What is timed.
        found: The probe: knows the operations and the weights.
        batches: One batch of the longest input's length by its number of rows, for the throughput.
    """
    workload = timer.workload
    longest = max(timer.inputs, key=n_tokens)
    tokens = n_tokens(longest)
    with timing_lock(progress=timer.say), pin_threads(workload.threads):
        runner = make_runner(timer.model, workload, [longest, *batches.values()], timer.say)
        energy = energy_per_input(runner, longest, workload.batch_size, workload.device)
        rates = throughput(runner, batches)
    peak = forward_peak_bytes(timer.model, workload, tokens)
    return Consumption(tokens, peak, found.model_bytes, found.dense_flops, energy, rates)

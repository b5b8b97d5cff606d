"""The truncation sweep: dense on fewer and fewer tokens, layer by layer, from the same forwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from autoprune.errors import MeasurementError
from autoprune.latency.stats import NS_PER_MS, FloatArray, IntArray
from autoprune.latency.timing import PairedTiming

if TYPE_CHECKING:
    from torch import nn

_POINTS = (8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096)
_FLAT = 0.2  # of the average gain per token: less counts as none
_HARDLY = 0.8  # of dense


@dataclass(frozen=True)
class SweepPoint:
    """Dense on so many tokens.

    Attributes:
        tokens: Tokens per row.
        ms: Median latency in milliseconds.
        ratio: That over the median at full length.
        ratio_ci: Its 95 % interval.
    """

    tokens: int
    ms: float
    ratio: float
    ratio_ci: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the point as JSON types."""
        return {**asdict(self), "ratio_ci": list(self.ratio_ci)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SweepPoint:
        """Read what ``to_dict`` wrote."""
        return cls(int(data["tokens"]), float(data["ms"]), float(data["ratio"]), tuple(data["ratio_ci"]))


def sweep_points(longest: int, smallest: int = 2) -> tuple[int, ...]:
    """Return the token counts to time: a fixed ladder up to ``longest``, its half and quarters, and ``smallest``."""
    wanted = {smallest, longest, longest // 2, longest // 4, longest // 8, *_POINTS}
    return tuple(sorted(n for n in wanted if max(1, smallest) <= n <= longest))


def export_points(longest: int, smallest: int = 2) -> tuple[int, ...]:
    """Return the few token counts to time where each costs an export of seconds."""
    wanted = {smallest, longest // 8, longest // 4, longest // 2, 3 * longest // 4, longest}
    return tuple(sorted(n for n in wanted if max(1, smallest) <= n <= longest))


class LayerClock:
    """Marks when each layer of a model starts, while its ``with`` block is open.

    Args:
        model: The model.
        layers: Its layer modules; a module that serves several layers stands once.
        mark: Returns now: nanoseconds, or a recorded device event.
    """

    def __init__(
        self, model: nn.Module, layers: Sequence[nn.Module], mark: Callable[[], Any] = time.perf_counter_ns
    ) -> None:
        self._model, self._layers, self._mark = model, layers, mark
        self._starts: list[Any] = []
        self._end: Any = None

    def __enter__(self) -> LayerClock:
        self._hooks = [layer.register_forward_pre_hook(self._on_start) for layer in self._layers]
        self._hooks += [layer.register_forward_hook(self._on_end) for layer in self._layers]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _on_start(self, module: nn.Module, args: Any) -> None:
        self._starts.append(self._mark())

    def _on_end(self, module: nn.Module, args: Any, output: Any) -> None:
        self._end = self._mark()

    def marks(self, forward: Callable[[], Any]) -> list[Any]:
        """Run a forward; return its marks: begin, start of each layer, end of the last layer, end."""
        self._starts.clear()
        begin = self._mark()
        forward()
        end = self._mark()
        if not self._starts:
            raise MeasurementError("No layer of this model was called, so layers cannot be timed.")
        return [begin, *self._starts, self._end, end]


@contextmanager
def layer_arms(
    clock: LayerClock, forwards: Mapping[int, Callable[[], Any]]
) -> Iterator[tuple[dict[str, Callable[[], None]], dict[int, list[list[Any]]]]]:
    """Yield what to time for each token count, and where the marks of each run are collected."""
    marks: dict[int, list[list[Any]]] = {tokens: [] for tokens in forwards}

    def arm(tokens: int) -> Callable[[], None]:
        return lambda: marks[tokens].append(clock.marks(forwards[tokens]))

    with ExitStack() as stack:
        stack.enter_context(clock)
        yield {str(tokens): arm(tokens) for tokens in forwards}, marks


def elapsed_ms(marks: Sequence[Any]) -> list[float]:
    """Return the milliseconds between neighbouring marks (nanoseconds, or device events)."""
    if isinstance(marks[0], int):
        return [(later - earlier) / NS_PER_MS for earlier, later in zip(marks, marks[1:])]
    return [float(earlier.elapsed_time(later)) for earlier, later in zip(marks, marks[1:])]


def split_layers(marks: Sequence[Sequence[Any]], total_ms: float) -> tuple[FloatArray, float]:
    """Return the time of each layer and of what is around them, in milliseconds.

    Medians of parts do not add up to the median of the whole, so they are scaled until they do.

    Args:
        marks: One list of marks per run.
        total_ms: Median latency of the whole forward.

    Returns:
        Shape (layers,), and the time outside the layers.
    """
    parts = np.median([elapsed_ms(run) for run in marks], axis=0)
    parts *= total_ms / parts.sum()
    return parts[1:-1], float(parts[0] + parts[-1])


def staircase(samples: Mapping[int, IntArray]) -> list[SweepPoint]:
    """Return the sweep's points, tokens ascending.

    Args:
        samples: Nanoseconds by token count, each of shape (rounds,), taken in turn.
    """
    full = samples[max(samples)]
    points = []
    for tokens in sorted(samples):
        pair = PairedTiming(dense_ns=full[:, None], policy_ns=samples[tokens][:, None])
        interval = pair.interval("p50") if tokens != max(samples) else (1.0, 1.0)
        points.append(SweepPoint(tokens, float(np.median(samples[tokens])) / NS_PER_MS, pair.ratio("p50"), interval))
    return points


def flat_regions(points: Sequence[SweepPoint]) -> list[str]:
    """Say in words where fewer tokens bring no less latency.

    A step between neighbouring points is flat when it gains less per token than a fifth of the
    average over the sweep, over a sixteenth of the length at least.

    Args:
        points: The staircase, tokens ascending.
    """
    least, full = points[0], points[-1]
    if least.ratio > _HARDLY:
        return [
            f"latency hardly depends on the tokens on this machine: {least.tokens} of {full.tokens} tokens still "
            f"take {least.ratio:.0%} of dense; a larger batch or longer inputs would leave more to gain"
        ]
    notes = []
    for first, last in _flat_runs(points):
        if last.tokens - first.tokens < full.tokens / 16:
            continue
        if first is least:
            notes.append(
                f"latency does not fall below {last.tokens} tokens on this machine ({last.ms:.2f} ms): "
                "nothing to gain there"
            )
        else:
            notes.append(f"between {first.tokens} and {last.tokens} tokens latency is flat ({last.ms:.2f} ms)")
    return notes


def _flat_runs(points: Sequence[SweepPoint]) -> Iterator[tuple[SweepPoint, SweepPoint]]:
    """Yield first and last point of each maximal run of flat steps."""
    average = (points[-1].ratio - points[0].ratio) / max(1, points[-1].tokens - points[0].tokens)
    start = 0
    for index in range(1, len(points) + 1):
        if index < len(points):
            step = points[index].tokens - points[index - 1].tokens
            if points[index].ratio - points[index - 1].ratio < _FLAT * average * step:
                continue
        if index - 1 > start:
            yield points[start], points[index - 1]
        start = index

"""Recording of what a forward pass removed, for ``explain`` and the report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

from autoprune.pruning.state import StageScores, StageTrace, Trace

__all__ = ["StageScores", "StageTrace", "Trace", "open_trace", "recording"]
_TRACE: ContextVar[Trace | None] = ContextVar("autoprune_trace", default=None)


@contextmanager
def recording() -> Iterator[Trace]:
    """Yield a trace that every forward inside the ``with`` block of this thread writes anew."""
    trace = Trace()
    token = _TRACE.set(trace)
    try:
        yield trace
    finally:
        _TRACE.reset(token)


def open_trace() -> Trace | None:
    """Return this thread's trace, emptied, or None when nothing is recorded."""
    if torch.compiler.is_compiling():
        return None
    trace = _TRACE.get()
    if trace is not None:
        trace.length = 0
        trace.scored.clear()
        trace.guarded = []
        trace.stages.clear()
        trace.layer_lengths.clear()
    return trace

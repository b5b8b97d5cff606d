"""Counts that an exporter cannot read from its inputs, told to it beforehand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_GUARDED: ContextVar[tuple[int, ...] | None] = ContextVar("autoprune_guarded", default=None)


@contextmanager
def guarded_known(guarded: Sequence[int]) -> Iterator[None]:
    """Say how many tokens of each row are protected, for the forwards inside the ``with`` block of this thread.

    A forward that is being exported cannot read that number. With it, the graph leaves as many tokens as the
    eager model leaves of inputs that have as many protected ones.

    Args:
        guarded: Protected tokens per row, as ``Trace.guarded`` has them.
    """
    token = _GUARDED.set(tuple(guarded))
    try:
        yield
    finally:
        _GUARDED.reset(token)


def known_guarded() -> list[int] | None:
    """Return what ``guarded_known`` was told, or None; dynamo cannot follow a ContextVar and is told nothing."""
    known = None if torch.compiler.is_dynamo_compiling() else _GUARDED.get()
    return None if known is None else list(known)

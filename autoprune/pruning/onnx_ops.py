"""Operators that PyTorch's ONNX exporter lacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def sort_stable(self: Any, *, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:
    """Return values and int64 indices, sorted; TopK puts the lower index first among equals, which is stable.

    Args:
        self: The tensor, of known rank.
        stable: TopK always is.
        dim: Along which it is sorted.
        descending: Largest first.
    """
    from onnxscript import opset18 as op

    axis = dim % len(self.shape)
    size = op.Shape(self, start=axis, end=axis + 1)
    return op.TopK(self, size, axis=axis, largest=int(descending), sorted=1)


def translations() -> dict[Any, Callable[..., Any]]:
    """Return what to use for which operator, for ``torch.onnx.export``."""
    return {torch.ops.aten.sort.stable: sort_stable}

"""Exported graphs on disk: dense is exported once per shape and kept, since every pair needs it again."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune.pruning.attach import attached_handle
from autoprune.pruning.onnx_export import export_onnx

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

_FILE = "model.onnx"
_KEPT: weakref.WeakKeyDictionary[Any, _Folder] = weakref.WeakKeyDictionary()


class _Folder:
    """A folder that lives as long as its model does, or as this process."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="autoprune-onnx-"))
        weakref.finalize(model, shutil.rmtree, self.path, ignore_errors=True)

    def place(self, batch: Mapping[str, Tensor]) -> Path:
        """Return the folder where the graph for inputs of this shape lies, or will lie."""
        return self.path / "_".join(f"{name}-{'x'.join(map(str, batch[name].shape))}" for name in sorted(batch))


@contextmanager
def exported(
    model: PreTrainedModel,
    batch: Mapping[str, Tensor],
    guarded: tuple[int, ...],
    say: Callable[[str], None] | None = None,
) -> Iterator[Path]:
    """Give the file of a model's graph for inputs of one shape; see ``export_onnx``.

    The graph of a pruned model is gone after the ``with`` block, that of a dense one stays.

    Args:
        model: The model, with or without a policy.
        batch: An input of that shape.
        guarded: Protected tokens per row.
        say: Told when an export begins.
    """
    handle = attached_handle(model)
    if handle is not None:
        with tempfile.TemporaryDirectory(prefix="autoprune-onnx-") as folder:
            yield _export(model, batch, Path(folder), guarded, say)
        return
    if model not in _KEPT:
        _KEPT[model] = _Folder(model)
    place = _KEPT[model].place(batch)
    if not place.is_dir():
        part = place.with_name(f"{place.name}.part")
        part.mkdir(exist_ok=True)
        _export(model, batch, part, guarded, say)
        os.rename(part, place)  # an export that was broken off is not taken for a graph
    yield place / _FILE


def _export(
    model: PreTrainedModel,
    batch: Mapping[str, Tensor],
    folder: Path,
    guarded: tuple[int, ...],
    say: Callable[[str], None] | None,
) -> Path:
    if say is not None:
        handle = attached_handle(model)
        rows, tokens = next(iter(batch.values())).shape[:2]
        size = f"{tokens} tokens" if rows == 1 else f"{rows} x {tokens} tokens"
        say(f"exports {'dense' if handle is None else handle.policy.describe()} at {size} to ONNX")
    export_onnx(model, batch, folder / _FILE, guarded)
    return folder / _FILE

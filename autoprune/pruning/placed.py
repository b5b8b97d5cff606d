"""Tables on the device of the inputs, wherever the model was moved after a policy was attached."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from autoprune.pruning.attention import is_tracing

Tables = Mapping[str, dict[str, Tensor]]


class Placed:
    """What a policy looks ids up in.

    Args:
        guarded: (V,) bool, ids that never leave, or None.
        tables: Tables by digest.
        device: Where they are wanted first.
    """

    def __init__(self, guarded: Tensor | None, tables: Tables, device: torch.device) -> None:
        self._source = guarded, tables
        self._now = device, self._copy(device)

    def on(self, device: torch.device) -> tuple[Tensor | None, Tables]:
        """Return both on a device; a model that moved costs one copy.

        Threads that come at the same time may each copy; each swaps the whole placement, so none sees half of it.
        """
        where, found = self._now
        if where == device:
            return found
        found = self._copy(device)
        if not is_tracing():
            self._now = device, found  # a tracer's copies are no real tensors
        return found

    def _copy(self, device: torch.device) -> tuple[Tensor | None, Tables]:
        guarded, tables = self._source
        moved = {key: {name: column.to(device) for name, column in table.items()} for key, table in tables.items()}
        return None if guarded is None else guarded.to(device), moved

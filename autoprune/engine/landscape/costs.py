"""Predicted latencies of many policies at once: the cost table's sum, without a loop over policies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from autoprune.latency.cost_table import CostTable

Floats = NDArray[np.float64]
_STEPS = 18


class _Costs:
    """The cost table's milliseconds by whole tokens, 0 to ``n_tokens``: looked up thousands of times per proposal."""

    def __init__(self, table: CostTable, n_tokens: int) -> None:
        counts = np.arange(n_tokens + 1)
        self.around = np.interp(counts, table.tokens, table.around_ms)
        self.layers = [np.interp(counts, table.tokens, row) for row in table.layers_ms]
        self.first_token = None
        if table.first_token:
            tokens, values = zip(*table.first_token, strict=True)
            self.first_token = np.interp(counts, tokens, values)


class CostSurface:
    """The cost table at one input length.

    Args:
        table: The cost table.
        n_tokens: Tokens per row of the input.
        n_protected: How many of them never leave.
        unit_ms: Milliseconds of the study per millisecond of the table.
    """

    def __init__(self, table: CostTable, n_tokens: int, n_protected: int, unit_ms: float = 1.0) -> None:
        self._table = table
        self.n_tokens = n_tokens
        self._floor = max(1, n_protected)
        self._unit_ms = unit_ms
        self.dense_ms = table.dense(n_tokens) * unit_ms
        self._at = _Costs(table, n_tokens)

    @property
    def n_layers(self) -> int:
        """Layers of the model."""
        return self._table.n_layers

    def counts(self, removal: Floats) -> Floats:
        """Return whole tokens that enter each layer, same shape as ``removal``."""
        kept = np.ceil(self.n_tokens * np.exp(-removal) - 1e-9)
        return np.asarray(np.maximum(kept, min(self._floor, self.n_tokens)), dtype=np.float64)

    def milliseconds(self, removal: Floats, first_token: NDArray[np.bool_]) -> Floats:
        """Return latencies of embedding, layers and head; what scoring costs is not among them.

        Args:
            removal: Shape (m, layers).
            first_token: Shape (m,), whether the last layer computes the first token alone.

        Returns:
            Shape (m,).
        """
        counts, at = self.counts(removal).astype(np.int64), self._at
        total = at.around[counts[:, 0]]
        for layer in range(self.n_layers - 1):
            total = total + at.layers[layer][counts[:, layer]]
        last = at.layers[-1][counts[:, -1]]
        if at.first_token is not None:
            last = np.where(first_token, at.first_token[counts[:, -1]], last)
        return np.asarray((total + last) * self._unit_ms, dtype=np.float64)

    def scale(self, weights: Floats, first_token: NDArray[np.bool_], allowed_ms: Floats, most: float) -> Floats:
        """Return the scale of each shape at which it just fits, shape (m,); NaN where none does.

        Args:
            weights: Removal at scale 1, shape (m, layers).
            first_token: Shape (m,).
            allowed_ms: What layers, embedding and head may take, shape (m,).
            most: The largest scale.
        """
        low, high = np.zeros(len(weights)), np.full(len(weights), most)
        fits = self.milliseconds(weights * most, first_token) <= allowed_ms
        for _ in range(_STEPS):
            middle = (low + high) / 2
            within = self.milliseconds(weights * middle[:, None], first_token) <= allowed_ms
            high, low = np.where(within, middle, high), np.where(within, low, middle)
        return np.asarray(np.where(fits, high, np.nan), dtype=np.float64)

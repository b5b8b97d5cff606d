"""Budget projection: a shape is proposed, its scale is solved so that the budget just binds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from autoprune.budget import Statistic
from autoprune.engine.landscape.costs import CostSurface
from autoprune.engine.landscape.expected import Expected, counts_at
from autoprune.latency.cost_table import CostTable, Counts
from autoprune.policy import PruningPolicy
from autoprune.spaces.space import Shape

_STEPS = 30
MAX_SCALE = 6.0
"""Of a shape: its last stage keeps exp(-6), a quarter of a percent, and nothing is left to remove."""
MARGIN = 0.96
"""Aim this far inside a target: by the interval's half width and some of the cost table's error."""
FLOOR_ROOM = 1.1
"""The least latency aimed at, in floors: predictions err."""


class Projector:
    """Predicts latencies on one workload and scales shapes onto a target.

    Args:
        cost_table: Measured costs of the model on this machine.
        lengths: Tokens of each timed input.
        n_protected: Tokens that never leave.
        statistic: The budget's statistic.
        tables: Table digest by the scorer that needs it.
        dense_ms: The study's dense latency: predictions are ratios of it, as measurements are.
        expected: Says what policies leave; None suffices where all of them keep shares.
    """

    def __init__(
        self,
        cost_table: CostTable,
        lengths: Sequence[int],
        n_protected: int,
        statistic: Statistic,
        tables: Mapping[str, str],
        dense_ms: float,
        expected: Expected | None = None,
    ) -> None:
        self._cost_table = cost_table
        self._lengths = tuple(lengths)
        self._n_protected = n_protected
        self._statistic = statistic
        self.tables = tables
        self.dense_ms = dense_ms
        self.expected = expected or Expected()
        self._corrected = cost_table
        self._pairs: list[tuple[PruningPolicy, int, int, float]] = []
        self._scale = dense_ms / self._statistic_of(cost_table, PruningPolicy())

    def predict(self, policy: PruningPolicy) -> float:
        """Return the predicted latency in milliseconds, of the budget's statistic over the lengths."""
        return self._statistic_of(self._corrected, policy) * self._scale

    def predict_shape(self, shape: Shape, scale: float) -> float:
        """Return the same of a shape at a scale, if its stages leave what they are to leave there."""
        counts = partial(_leaving, shape.keeps(scale))
        return self._statistic_of(self._corrected, shape.policy(scale, self.tables), counts) * self._scale

    def surface(self) -> CostSurface:
        """Return the costs of layers at the middle length, scaled so that dense takes what it takes in this study."""
        middle = sorted(self._lengths)[len(self._lengths) // 2]
        return CostSurface(self._cost_table, middle, self._n_protected, self.dense_ms / self._cost_table.dense(middle))

    def observe(self, policy: PruningPolicy, measured_ms: float) -> None:
        """Correct the predictions by a measured policy; later proposals of its method profit.

        Args:
            policy: The policy.
            measured_ms: Its latency, normalised as all of the study's figures are.
        """
        table, middle = self._cost_table, sorted(self._lengths)[len(self._lengths) // 2]
        share = measured_ms / (self._scale * self._statistic_of(table, policy))
        plain = table.predict(policy, middle, self._n_protected, self.expected.counts)
        self._pairs.append((policy, middle, self._n_protected, plain * share))
        self._corrected = table.recalibrate(self._pairs, self.expected.counts)

    def _statistic_of(self, table: CostTable, policy: PruningPolicy, counts: Counts | None = None) -> float:
        counts = counts or self.expected.counts
        return table.predict_statistic(policy, self._lengths, self._n_protected, self._statistic, counts)

    def fit(self, shape: Shape, target_ms: float) -> PruningPolicy | None:
        """Return the shape's gentlest policy that is predicted to take at most ``target_ms``.

        Returns:
            None if even the strongest scale of this shape is too slow.
        """
        target = target_ms * MARGIN
        if self.predict_shape(shape, 0.0) <= target:
            return self._settled(shape, 0.0)
        low, high = 0.0, MAX_SCALE
        if not shape.stages or self.predict_shape(shape, high) > target:
            return None
        within = {shape.keeps(low): False, shape.keeps(high): True}  # keeps are rounded: the last steps meet them again
        for _ in range(_STEPS):
            middle = (low + high) / 2
            keeps = shape.keeps(middle)
            if keeps not in within:
                within[keeps] = self.predict_shape(shape, middle) <= target
            low, high = (low, middle) if within[keeps] else (middle, high)
        return self._settled(shape, high)

    def strongest(self, shape: Shape) -> PruningPolicy:
        """Return the shape's fastest policy."""
        return self._settled(shape, MAX_SCALE)

    def _settled(self, shape: Shape, scale: float) -> PruningPolicy:
        return self.expected.settle(shape.policy(scale, self.tables), shape.keeps(scale))


def _leaving(keeps: Sequence[float], policy: PruningPolicy, n_tokens: int, n_protected: int) -> Sequence[float]:
    return counts_at(policy, keeps, n_tokens, n_protected)

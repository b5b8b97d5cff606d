"""``--until converged``: stop when the next policies are not expected to improve the front."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from autoprune.front.hypervolume import hypervolume

TOLERANCE = 0.002
"""Expected gain per policy, as a share of the front's hypervolume, below which a search has converged."""
_WINDOW = 10


@dataclass
class Convergence:
    """Estimates the gain of the next policy by the mean gain of the last ten.

    A policy that was stopped early gained nothing; it could not reach the front.

    Attributes:
        tolerance: See ``TOLERANCE``.
    """

    tolerance: float = TOLERANCE
    _points: list[tuple[float, float]] = field(default_factory=list)
    _gains: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    _volume: float = 0.0

    def finished(self, ratio: float, score: float) -> None:
        """Note a finished policy.

        Args:
            ratio: Its latency as a share of dense.
            score: Its score, 0 to 1.
        """
        self._points.append((ratio, score))
        volume = hypervolume(*zip(*self._points, strict=True), latency_reference=1.0)
        self._gains.append((volume - self._volume) / volume if volume > 0 else 0.0)
        self._volume = volume

    def stopped(self) -> None:
        """Note a policy that was stopped or failed."""
        self._gains.append(0.0)

    @property
    def expected_gain(self) -> float:
        """Expected gain of the next policy as a share of the hypervolume; infinite while too little is known."""
        full = len(self._gains) == _WINDOW
        return sum(self._gains) / _WINDOW if full and self._points else float("inf")

    @property
    def converged(self) -> bool:
        """Whether the expected gain is below the tolerance."""
        return self.expected_gain < self.tolerance

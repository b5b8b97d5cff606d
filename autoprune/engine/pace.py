"""How fast a search goes, and when it will end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Pace:
    """Counts policies against the clock.

    Attributes:
        now: Seconds that never go back.
    """

    now: Callable[[], float] = time.monotonic
    _begun: float | None = field(default=None, init=False)
    _steps: int = field(default=0, init=False)

    def start(self) -> None:
        """Start the clock."""
        self._begun = self.now()

    def step(self) -> None:
        """Count a policy that was finished, stopped or failed."""
        self._steps += 1

    def words(self, remaining: int, deadline: float | None) -> dict[str, object]:
        """Return policies per minute and the time left, as far as they can be told.

        Args:
            remaining: Policies still to try.
            deadline: When nothing new begins any more, on the same clock, or None.
        """
        if self._begun is None or self._steps < 2:
            return {}
        rate = self._steps / max(self.now() - self._begun, 1e-9)
        left = max(0.0, remaining / rate)
        if deadline is not None:
            left = min(left, max(0.0, deadline - self.now()))
        return {"per_minute": f"{60 * rate:.1f}", "left": _duration(left)}


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

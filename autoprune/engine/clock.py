"""Where a search's time goes: seconds by phase, read off what it tells its observer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from autoprune.engine.events import Observer


class Clock(Observer):
    """Passes everything on to another observer and adds up the seconds of each phase.

    Args:
        inner: The observer that shows progress.
        now: Seconds that never go back.
    """

    def __init__(self, inner: Observer, now: Callable[[], float] = time.monotonic) -> None:
        self._inner = inner
        self._now = now
        self._name: str | None = None
        self._since = now()
        self._seconds: dict[str, float] = {}

    def message(self, text: str) -> None:
        """Pass the finding on."""
        self._inner.message(text)

    def phase(self, name: str, total: int | None = None) -> None:
        """Close the last phase's account and open the next one's."""
        self._close()
        self._name = name
        self._inner.phase(name, total)

    def advance(self, n: int = 1) -> None:
        """Pass the step on."""
        self._inner.advance(n)

    def update(self, **fields: Any) -> None:
        """Pass the figures on."""
        self._inner.update(**fields)

    def done(self) -> None:
        """Close the last phase."""
        self._close()
        self._name = None
        self._inner.done()

    def seconds(self) -> dict[str, float]:
        """Return the seconds of every phase so far, in the order in which they began."""
        self._close()
        return {name: round(spent, 1) for name, spent in self._seconds.items()}

    def _close(self) -> None:
        now = self._now()
        if self._name is not None:
            self._seconds[self._name] = self._seconds.get(self._name, 0.0) + now - self._since
        self._since = now

"""What a running job says to whoever watches it; the command line draws it, tests record it."""

from __future__ import annotations

from typing import Any


class Observer:
    """Receives progress; this base class ignores all of it.

    Subclass it to show progress. No method may raise.
    """

    def message(self, text: str) -> None:
        """A finding, in one line."""

    def phase(self, name: str, total: int | None = None) -> None:
        """A new phase begins; ``total`` counts its steps where that is known."""

    def advance(self, n: int = 1) -> None:
        """``n`` steps of the phase are done."""

    def update(self, **fields: Any) -> None:
        """Figures to show beside the progress: ``feasible``, ``best``, ``drop``, ..."""

    def done(self) -> None:
        """The job has ended."""

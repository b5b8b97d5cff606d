"""Progress on stderr: a moving line on a terminal, plain lines elsewhere.

Neither starts a thread: on a small machine a thread that redraws ten times a second would disturb the
very latencies that are being measured. The screen changes when the job says something.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import IO, Any

from autoprune.engine.events import Observer

_REDRAW_SECONDS = 0.1
_LINE_SECONDS = 10.0


@contextlib.contextmanager
def watching(stream: IO[str] | None = None) -> Iterator[Observer]:
    """Give an observer that fits ``stream`` (stderr by default), and end its drawing afterwards."""
    stream = stream or sys.stderr
    observer: Observer = TerminalProgress(stream) if stream.isatty() else PlainProgress(stream)
    try:
        yield observer
    finally:
        observer.done()


def describe(fields: dict[str, Any]) -> str:
    """Return figures in a few words, such as ``feasible 3 · best 0.912``."""
    parts = []
    for name, value in fields.items():
        if value is None:
            continue
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        parts.append(f"{name.replace('_', ' ')} {text}")
    return " · ".join(parts)


class PlainProgress(Observer):
    """One line per event, and in between one every ten seconds.

    Args:
        stream: Where the lines go.
        clock: Seconds that never go back.
    """

    def __init__(self, stream: IO[str], clock: Any = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._name = ""
        self._total: int | None = None
        self._count = 0
        self._fields: dict[str, Any] = {}
        self._last = clock()

    def message(self, text: str) -> None:
        """Print the finding."""
        print(text, file=self._stream, flush=True)

    def phase(self, name: str, total: int | None = None) -> None:
        """Print the phase's name."""
        self._name, self._total, self._count = name, total, 0
        self._fields = {}
        self._last = self._clock()
        self.message(f"{name} ..." if total is None else f"{name} (0/{total}) ...")

    def advance(self, n: int = 1) -> None:
        """Count, and print the count when it is time."""
        self._count += n
        self._now_and_then(last=self._total is not None and self._count >= self._total)

    def update(self, **fields: Any) -> None:
        """Keep the figures for the next line."""
        self._fields.update(fields)

    def _now_and_then(self, last: bool) -> None:
        if not last and self._clock() - self._last < _LINE_SECONDS:
            return
        self._last = self._clock()
        count = f"{self._count}" if self._total is None else f"{self._count}/{self._total}"
        self.message("  ".join(filter(None, (f"{self._name} {count}", describe(self._fields)))))


class TerminalProgress(Observer):
    """A bar with count, time and figures at the bottom of the terminal; findings scroll above it.

    Args:
        stream: The terminal.
    """

    def __init__(self, stream: IO[str]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[figures]}", markup=False),
            console=Console(file=stream, highlight=False),
            auto_refresh=False,
            transient=True,
        )
        self._task: Any = None
        self._fields: dict[str, Any] = {}
        self._drawn = 0.0
        self._progress.start()

    def message(self, text: str) -> None:
        """Print the finding above the bar."""
        self._progress.console.print(text, markup=False)

    def phase(self, name: str, total: int | None = None) -> None:
        """Put the phase's bar in the place of the last one."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._fields = {}
        self._task = self._progress.add_task(name, total=total, figures="")
        self._progress.refresh()

    def advance(self, n: int = 1) -> None:
        """Move the bar."""
        if self._task is not None:
            self._progress.advance(self._task, n)
            self._redraw()

    def update(self, **fields: Any) -> None:
        """Show the figures beside the bar."""
        self._fields.update(fields)
        if self._task is not None:
            self._progress.update(self._task, figures=describe(self._fields))
            self._redraw()

    def done(self) -> None:
        """Remove the bar."""
        self._progress.stop()

    def _redraw(self) -> None:
        now = time.monotonic()
        if now - self._drawn >= _REDRAW_SECONDS:
            self._drawn = now
            self._progress.refresh()

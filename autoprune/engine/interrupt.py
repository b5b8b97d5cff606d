"""Ctrl-C once in a search: finish the running step, save, report. Twice, or before it: stop at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any


class Interrupt:
    """Context manager that turns the first SIGINT or SIGTERM into a flag, once ``graceful`` is set.

    Before that nothing is under way that would be lost, so the job ends at once. Outside the main
    thread signals cannot be caught; there the flag stays false.

    Args:
        say: Told in words when the flag is raised.
    """

    def __init__(self, say: Callable[[str], None] = lambda _text: None) -> None:
        self.requested = False
        self.graceful = False
        self._say = say
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        self.listen()
        return self

    def listen(self) -> None:
        """Take the signals, also again after a library took them for itself (``ray.init`` takes SIGTERM)."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous.setdefault(number, signal.signal(number, self._handle))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self.requested or not self.graceful:
            raise KeyboardInterrupt
        self.requested = True
        self._say("stopping   after the running step; Ctrl-C again stops at once")

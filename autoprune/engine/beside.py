"""One call at a time in a thread beside the caller's: a timing node works while the search goes on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T")


class Beside(Generic[K, T]):
    """Runs calls in a thread of its own, which begins with the first."""

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._under_way: tuple[K, Future[T]] | None = None

    @property
    def busy(self) -> bool:
        """Whether a call was started and not taken."""
        return self._under_way is not None

    @property
    def done(self) -> bool:
        """Whether a call was started and has ended."""
        return self._under_way is not None and self._under_way[1].done()

    def start(self, key: K, call: Callable[[], T]) -> None:
        """Begin a call.

        Args:
            key: What ``take`` returns beside the call's value.
            call: Runs in the thread.

        Raises:
            RuntimeError: Another is under way.
        """
        if self._under_way is not None:
            raise RuntimeError("One call at a time.")
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="timing")
        self._under_way = key, self._thread.submit(call)

    def wait(self) -> None:
        """Wait until the call that is under way has ended, if there is one."""
        if self._under_way is not None:
            wait([self._under_way[1]])

    def take(self) -> tuple[K, Callable[[], T]]:
        """Return the key and a function that waits for the call, and returns its value or raises its error.

        Raises:
            RuntimeError: None was started.
        """
        if self._under_way is None:
            raise RuntimeError("No call is under way.")
        (key, future), self._under_way = self._under_way, None
        return key, future.result

"""The pool that scores in this process, one group of jobs at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from autoprune._registry import POOLS
from autoprune.evaluate.evaluator import Evaluator, ExampleSource, Job, Outcome
from autoprune.evaluate.group import run_group
from autoprune.latency.exclusive import kernel_boot_id
from autoprune.pruning.tables import TableSet


@POOLS.register("local")
class LocalPool:
    """Scores jobs in order of submission, when their outcome is asked for.

    Args:
        source: Model, tokenizer and examples.
        tables: Tables that policies refer to.
    """

    workers = 1

    def __init__(self, source: ExampleSource, tables: TableSet) -> None:
        self._evaluator = Evaluator(source, tables)
        self._queue: deque[tuple[Job, ...]] = deque()
        self._done: deque[Outcome] = deque()

    @property
    def pending(self) -> int:
        """Jobs submitted and not yet returned."""
        return sum(map(len, self._queue)) + len(self._done)

    @property
    def wanted(self) -> int:
        """Jobs that can be submitted without waiting."""
        return max(0, 1 - self.pending)

    def submit(self, *jobs: Job) -> None:
        """Queue jobs as one group."""
        if jobs:
            self._queue.append(jobs)

    def next(self) -> Outcome:
        """Return an outcome of the oldest group, which is scored when its first is asked for."""
        if not self._done:
            self._done.extend(run_group(self._evaluator, self._queue.popleft()))
        return self._done.popleft()

    def wait(self, until: Callable[[], bool]) -> None:
        """Do nothing: only ``next`` lets time pass."""

    def settle(self) -> None:
        """Do nothing: only ``next`` computes."""

    def apart(self, host: str) -> bool:
        """Return whether the machine is another one."""
        return host != kernel_boot_id()

    def close(self) -> None:
        """Forget what was not begun."""
        self._queue.clear()
        self._done.clear()

"""The pool that scores in this process, one job at a time."""

from __future__ import annotations

from collections import deque

from autoprune._registry import POOLS
from autoprune.evaluate.evaluator import Evaluator, ExampleSource, Job, Outcome
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
        self._queue: deque[Job] = deque()

    @property
    def pending(self) -> int:
        """Jobs submitted and not yet returned."""
        return len(self._queue)

    @property
    def wanted(self) -> int:
        """Jobs that can be submitted without waiting."""
        return max(0, 1 - len(self._queue))

    def submit(self, job: Job) -> None:
        """Queue a job."""
        self._queue.append(job)

    def next(self) -> Outcome:
        """Score the oldest job and return its outcome."""
        return self._evaluator.run(self._queue.popleft())

    def close(self) -> None:
        """Forget what was not begun."""
        self._queue.clear()

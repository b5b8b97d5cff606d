"""The pool that answers from recorded logits, on a virtual clock: search code is tested in seconds.

Workers are simulated: each runs one group of jobs at a time for as long as ``seconds`` says of its jobs together,
results come in the order of their virtual finish, and a group waits until the driver fetches a result, as on the Ray
pool. What the jobs of a group save by sharing layers is not simulated.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal
from zipfile import BadZipFile

import numpy as np

from autoprune._registry import POOLS
from autoprune.errors import DataError
from autoprune.evaluate.evaluator import Job, Outcome
from autoprune.evaluate.quality import Logits


@POOLS.register("replay")
class ReplayPool:
    """Answers jobs from recordings.

    Args:
        recorded: Logits by policy digest, each of shape (n, classes) in the fixed order; a policy that
            is not there, or not on enough examples, is an outcome with an error.
        workers: Simulated workers (>= 1).
        seconds: Virtual seconds that a job takes (>= 0); None: none.
        watch: A clock in seconds, such as ``time.perf_counter``. With it, the driver's own time between
            two calls of the pool passes on the virtual clock too; None: the driver costs nothing.

    Attributes:
        clock: Virtual seconds since the start.
        busy: Virtual seconds that each worker has worked, finished jobs only; shape (workers,).
        examples: Examples answered so far, by policy digest.
        driver_seconds: What ``watch`` said that the driver took, between calls of the pool.
    """

    def __init__(
        self,
        recorded: Mapping[str, Logits],
        workers: int = 1,
        seconds: Callable[[Job], float] | None = None,
        watch: Callable[[], float] | None = None,
    ) -> None:
        self.workers = workers
        self.clock = 0.0
        self.busy = [0.0] * workers
        self.examples: dict[str, int] = {}
        self._recorded, self._seconds, self._watch = recorded, seconds, watch
        self.driver_seconds = 0.0
        self._left = 0.0 if watch is None else watch()
        self._queue: deque[tuple[Job, ...]] = deque()
        self._done: deque[Outcome] = deque()
        self._idle = list(range(workers - 1, -1, -1))
        # (finish, order of start, worker, duration, jobs with theirs): the order settles ties, so that runs agree.
        self._running: list[tuple[float, int, int, float, list[tuple[Job, float]]]] = []
        self._started = 0

    @property
    def pending(self) -> int:
        """Jobs submitted and not yet returned."""
        return sum(map(len, self._queue)) + sum(len(running[-1]) for running in self._running) + len(self._done)

    @property
    def wanted(self) -> int:
        """Jobs that can be submitted without waiting: as many as the local pool (one worker) or Ray's would."""
        simulated = len(self.busy)
        return max(0, simulated + (simulated > 1) - self.pending)

    def submit(self, *jobs: Job) -> None:
        """Give a group of jobs to an idle worker, or queue it."""
        self._enter()
        if jobs:
            self._queue.append(jobs)
        self._feed()
        self._leave()

    def next(self) -> Outcome:
        """Let the clock run to the next finish if nothing has finished, and return an outcome."""
        self._enter()
        if not self._done:
            self._finish()
        self._leave()
        return self._done.popleft()

    def _finish(self) -> None:
        finish, _, worker, duration, jobs = heapq.heappop(self._running)
        # A finish in the past waited for the driver, and its worker with it.
        self.clock = max(self.clock, finish)
        self.busy[worker] += duration
        self._idle.append(worker)
        self._feed()
        self._done.extend(self._answer(job, lasts) for job, lasts in jobs)

    def wait(self, until: Callable[[], bool]) -> None:
        """Do nothing: only ``next`` lets time pass."""

    def settle(self) -> None:
        """Do nothing: nothing is computed."""

    def apart(self, host: str) -> bool:
        """Return True: nothing is computed."""
        return True

    def close(self) -> None:
        """Forget what was not finished."""
        self._queue.clear()
        self._running.clear()
        self._done.clear()

    @property
    def busy_share(self) -> float:
        """Share of the workers' time so far in which they worked (0 to 1); jobs under way count up to now."""
        if self.clock == 0.0:
            return 0.0
        under_way = sum(min(self.clock, finish) - (finish - lasts) for finish, _, _, lasts, _ in self._running)
        return (sum(self.busy) + under_way) / (self.clock * len(self.busy))

    def _feed(self) -> None:
        while self._queue and self._idle:
            jobs, worker = self._queue.popleft(), self._idle.pop()
            timed = [(job, 0.0 if self._seconds is None else self._seconds(job)) for job in jobs]
            duration = sum(lasts for _, lasts in timed)
            heapq.heappush(self._running, (self.clock + duration, self._started, worker, duration, timed))
            self._started += 1

    def _answer(self, job: Job, duration: float) -> Outcome:
        digest = job.policy.digest()
        logits = self._recorded.get(digest)
        if logits is None:
            return Outcome(job, None, duration, f"LookupError: no recording of the policy {digest[:12]}")
        if len(logits) < job.stop:
            why = f"LookupError: {digest[:12]} was recorded on {len(logits)} examples, not on {job.stop}"
            return Outcome(job, None, duration, why)
        self.examples[digest] = self.examples.get(digest, 0) + job.stop - job.start
        return Outcome(job, logits[job.start : job.stop].astype(np.float32), duration)

    def _enter(self) -> None:
        if self._watch is not None:
            passed = self._watch() - self._left
            self.driver_seconds += passed
            self.clock += passed

    def _leave(self) -> None:
        if self._watch is not None:
            self._left = self._watch()


def save_recording(
    path: Path, recorded: Mapping[str, Logits], precision: Literal["float32", "float16"] = "float32"
) -> None:
    """Write recorded logits as a compressed ``.npz``: one array per policy, named by its digest.

    Args:
        path: The file; replaced if it is there.
        recorded: Logits by policy digest, each of shape (n, classes); n may differ.
        precision: ``float16`` halves the file, at a relative error of 5e-4 in each logit.
    """
    arrays = {digest: np.asarray(logits, dtype=precision) for digest, logits in recorded.items()}
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # its stub takes a keyword for a flag
    partial.replace(path)


def load_recording(path: Path) -> dict[str, Logits]:
    """Read what ``save_recording`` wrote, as float32; nothing in the file is executed.

    Raises:
        DataError: The file is missing, damaged, or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {digest: archive[digest] for digest in archive.files}
    except (OSError, ValueError, BadZipFile, EOFError) as error:
        raise DataError(f"{path} is not a recording: {error}.", "Record it again.") from error
    for digest, logits in found.items():
        if logits.ndim != 2 or logits.dtype.kind != "f":
            raise DataError(
                f"{path} holds {logits.dtype} of shape {logits.shape} under {digest!r}, where logits of shape "
                "(examples, classes) should be.",
                "Record it again.",
            )
    return {digest: logits.astype(np.float32) for digest, logits in found.items()}

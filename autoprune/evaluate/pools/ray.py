"""The pool of Ray actors: each loads the model once and scores one job at a time."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

from autoprune._registry import POOLS
from autoprune.errors import WorkerError
from autoprune.evaluate.evaluator import Evaluator, ExampleSource, Job, Outcome
from autoprune.pruning.tables import TableSet

TIMER_RESOURCE = "autoprune_timer"
"""Custom resource of nodes that are set aside for timing."""
_RETRIES = 2


class _Worker:
    """The actor's body: one evaluator on one core."""

    def __init__(self, source: ExampleSource, tables: TableSet) -> None:
        import torch

        torch.set_num_threads(1)
        self._evaluator = Evaluator(source, tables)

    def run(self, job: Job) -> Outcome:
        return self._evaluator.run(job)

    def ready(self) -> int:
        return os.getpid()

    def where(self) -> str:
        import ray

        return str(ray.get_runtime_context().get_node_id())


@POOLS.register("ray")
class RayPool:
    """Scores jobs on Ray actors; a job whose actor dies is tried again, at most twice.

    Args:
        source: Model, tokenizer and examples; put into the object store once.
        tables: Tables that policies refer to.
        workers: Number of actors (>= 1).
        address: Address of a running cluster, or None for one on this machine.

    Raises:
        WorkerError: The cluster or the actors cannot be started.
    """

    def __init__(self, source: ExampleSource, tables: TableSet, workers: int, address: str | None = None) -> None:
        import ray

        self.workers = workers
        self._owns_cluster = connect(address, workers)
        self._nodes = cycle(scoring_nodes())
        self._source, self._tables = ray.put(source), ray.put(tables)
        self._queue: deque[tuple[Job, int]] = deque()
        self._running: dict[Any, tuple[Job, int, Any]] = {}
        self._idle = [self._start() for _ in range(workers)]
        self._await_actors()

    @property
    def pending(self) -> int:
        """Jobs submitted and not yet returned."""
        return len(self._queue) + len(self._running)

    @property
    def wanted(self) -> int:
        """Jobs that can be submitted without waiting; one more than actors, so that none idles."""
        return max(0, self.workers + 1 - self.pending)

    def submit(self, job: Job) -> None:
        """Give the job to an idle actor, or queue it."""
        self._queue.append((job, 0))
        self._feed()

    def next(self) -> Outcome:
        """Wait for any job to end and return its outcome."""
        import ray
        from ray.exceptions import RayError

        while True:
            done, _ = ray.wait(list(self._running), num_returns=1)
            job, tries, actor = self._running.pop(done[0])
            try:
                outcome: Outcome = ray.get(done[0])
            except RayError as error:
                self._idle.append(self._start())
                lost = self._retry(job, tries, error)
                if lost is not None:
                    return lost
                continue
            self._idle.append(actor)
            self._feed()
            return outcome

    def close(self) -> None:
        """Stop the actors, and the cluster if this pool started it."""
        import ray

        for actor in [*self._idle, *(entry[2] for entry in self._running.values())]:
            ray.kill(actor)
        self._queue.clear()
        self._running.clear()
        self._idle.clear()
        if self._owns_cluster:
            ray.shutdown()

    def pids(self) -> list[int]:
        """Return the process ids of the idle actors."""
        import ray

        return [int(pid) for pid in ray.get([actor.ready.remote() for actor in self._idle])]

    def nodes(self) -> list[str]:
        """Return the ids of the nodes where the idle actors are."""
        import ray

        return [str(node) for node in ray.get([actor.where.remote() for actor in self._idle])]

    def _retry(self, job: Job, tries: int, error: Exception) -> Outcome | None:
        if tries >= _RETRIES:
            self._feed()
            return Outcome(job, None, 0.0, f"The worker died {tries + 1} times: {type(error).__name__}.")
        self._queue.appendleft((job, tries + 1))
        self._feed()
        return None

    def _start(self) -> Any:
        import ray

        body: Any = ray.remote(num_cpus=1)(_Worker)
        node = next(self._nodes, None)
        strategy = "DEFAULT" if node is None else _preferring(node)
        return body.options(scheduling_strategy=strategy).remote(self._source, self._tables)

    def _await_actors(self) -> None:
        import ray
        from ray.exceptions import RayError

        try:
            ray.get([actor.ready.remote() for actor in self._idle], timeout=300)
        except RayError as error:
            self.close()
            raise WorkerError(
                f"Ray could not start {self.workers} workers: {type(error).__name__}.",
                "Use fewer workers, or --workers 1 to score in this process.",
            ) from error

    def _feed(self) -> None:
        while self._queue and self._idle:
            job, tries = self._queue.popleft()
            actor = self._idle.pop()
            self._running[actor.run.remote(job)] = (job, tries, actor)


def timer_nodes() -> dict[str, str]:
    """Return the names of the cluster's timing nodes by node id; call it when connected."""
    return {str(node["NodeID"]): str(node["NodeName"]) for node in _alive() if _is_timer(node)}


def scoring_nodes() -> list[str]:
    """Return a node id per core outside the timing nodes, other hosts than theirs first.

    Empty where no node is set aside for timing: then Ray's own choice is as good.
    """
    nodes = _alive()
    hosts = {node["NodeManagerHostname"] for node in nodes if _is_timer(node)}
    if not hosts:
        return []
    others = sorted((node for node in nodes if not _is_timer(node)), key=lambda n: n["NodeManagerHostname"] in hosts)
    return [str(node["NodeID"]) for node in others for _ in range(int(node["Resources"].get("CPU", 0)))]


def _alive() -> Sequence[Mapping[str, Any]]:
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in nodes if node["Alive"]]


def _is_timer(node: Mapping[str, Any]) -> bool:
    return float(node["Resources"].get(TIMER_RESOURCE, 0)) > 0


def _preferring(node: str) -> Any:
    """Return a strategy that takes this node if it has room, else any: work that waits helps nobody."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node, soft=True, _spill_on_unavailable=True)


def connect(address: str | None, workers: int) -> bool:
    """Join or start a cluster; return whether this call did, so that the caller ends it.

    Raises:
        WorkerError: It cannot be reached or started.
    """
    import ray

    if ray.is_initialized():
        return False
    logging.getLogger("ray").setLevel(logging.ERROR)  # its advice on tokens is not the user's concern here
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
    try:
        if address is not None:
            ray.init(address=address, **quiet)
            return True
        ray.init(num_cpus=workers, include_dashboard=False, **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise WorkerError(
            f"Ray could not be reached or started: {' '.join(str(error).split())[:200]}",
            "Check --ray-address, or use --workers 1 to score in this process.",
        ) from error
    return True

"""The pool of Ray actors: each loads the model once and scores one group of jobs at a time."""

from __future__ import annotations

import copy
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from autoprune._registry import POOLS
from autoprune.errors import WorkerError
from autoprune.evaluate.evaluator import ExampleSource, Job, Outcome
from autoprune.evaluate.pool import PROCESS_BYTES, gpu_places
from autoprune.evaluate.pools.actors import Crew, Worker, first_line, stop
from autoprune.pruning.tables import TableSet

S = TypeVar("S", bound=ExampleSource)

TIMER_RESOURCE = "autoprune_timer"
"""Custom resource of nodes that are set aside for timing."""
_RETRIES = 2
_TICK_S = 1.0
_LOOK_S = 5.0  # how often a pool without a fixed size looks for new nodes
_PATIENCE_S, _PATIENCE_CLUSTER_S = 120.0, 600.0  # a cluster may have to boot a node first


@POOLS.register("ray")
class RayPool:
    """Scores jobs on Ray actors; a job whose actor dies is tried again on another, at most twice.

    A group whose actor dies falls apart: its jobs are tried again one by one, for one of them may be what kills.
    Actors that die are replaced, on nodes that joined meanwhile if need be. Actors for which there is no
    room wait for it, and the others begin without them.

    Args:
        source: Model, tokenizer and examples; put into the object store once.
        tables: Tables that policies refer to.
        workers: Number of actors (>= 1), or None: as many as the cluster has cores (or shares of GPUs) and
            memory for, also when nodes join later.
        address: Address of a running cluster, or None for one on this machine.
        gpus: GPUs per actor (>= 0; 0.25 puts four actors on one); 0 scores on CPUs.
        patience: Seconds without a live actor after which the search ends; None: two minutes on this
            machine, ten on a cluster.

    Attributes:
        workers: Actors wanted.

    Raises:
        WorkerError: The cluster or the actors cannot be started, or all are lost.
    """

    def __init__(
        self,
        source: ExampleSource,
        tables: TableSet,
        workers: int | None,
        address: str | None = None,
        gpus: float = 0.0,
        patience: float | None = None,
    ) -> None:
        import ray

        self._owns_cluster = connect(address, workers)
        self._gpus = gpus
        self._bytes = PROCESS_BYTES + 2 * sum(p.numel() * p.element_size() for p in source.model.parameters())
        self._grows, self._looked = workers is None, time.monotonic()
        self.workers = room(gpus, self._bytes) if workers is None else workers
        self._source, self._tables = ray.put(on_cpu(source)), ray.put(tables)
        self._asked = 0
        self._queue: deque[tuple[tuple[Job, ...], int]] = deque()
        self._running: dict[Any, tuple[tuple[Job, ...], int, Any]] = {}
        self._done: deque[Outcome] = deque()
        default = _PATIENCE_S if address is None else _PATIENCE_CLUSTER_S
        wants = f"1 CPU and {gpus:g} GPU" if gpus else "1 CPU"
        self._crew = Crew(self.workers, self._actor, default if patience is None else patience, wants)
        try:
            self._crew.await_first()
        except WorkerError:
            self.close()
            raise

    @property
    def pending(self) -> int:
        """Jobs submitted and not yet returned."""
        groups = [jobs for jobs, _ in self._queue] + [jobs for jobs, _, _ in self._running.values()]
        return sum(map(len, groups)) + len(self._done)

    @property
    def wanted(self) -> int:
        """Jobs that can be submitted without waiting; one more than live actors, so that none idles."""
        return max(0, self._crew.live + 1 - self.pending)

    def submit(self, *jobs: Job) -> None:
        """Give a group of jobs to an idle actor, or queue it."""
        if jobs:
            self._queue.append((jobs, 0))
            self._feed()

    def next(self) -> Outcome:
        """Wait for any job to end and return its outcome.

        Raises:
            WorkerError: All actors are lost and none can be started.
        """
        self.wait(lambda: False)
        return self._done.popleft()

    def wait(self, until: Callable[[], bool]) -> None:
        """Wait until any job has ended, or ``until`` says so.

        Raises:
            WorkerError: All actors are lost and none can be started.
        """
        while not self._done and not until():
            reference = self._wait()
            if reference is not None:
                self._collect(reference)

    def _collect(self, reference: Any) -> None:
        """Take what came of a group, its outcomes or its actor's death."""
        import ray
        from ray.exceptions import RayError

        jobs, tries, actor = self._running.pop(reference)
        self._crew.busy -= 1
        try:
            self._done.extend(ray.get(reference))
        except RayError as error:
            self._crew.replace(actor)
            self._retry(jobs, tries, error)
        else:
            self._crew.idle.append(actor)
        self._feed()

    def settle(self) -> None:
        """Wait for actors that were asked for lately, a replacement for one that died say, to be ready."""
        self._crew.settle()

    def apart(self, host: str) -> bool:
        """Return whether no actor is on the machine, and none is awaited that may come up there."""
        return not self._crew.starting and not {host, ""} & {*self._crew.hosts.values()}

    def close(self) -> None:
        """Stop the actors, and the cluster if this pool started it."""
        import ray

        for _, _, actor in self._running.values():
            stop(actor)
        self._crew.close()
        self._queue.clear()
        self._running.clear()
        self._done.clear()
        if self._owns_cluster:
            ray.shutdown()

    def pids(self) -> list[int]:
        """Return the process ids of the idle actors that live."""
        return [int(pid) for pid, _ in self._crew.answers("ready").values()]

    def nodes(self) -> list[str]:
        """Return the ids of the nodes where the idle actors that live are."""
        return [str(node) for node in self._crew.answers("where").values()]

    def devices(self) -> list[str]:
        """Return the torch devices of the idle actors that live."""
        return [str(device) for device in self._crew.answers("device").values()]

    def _wait(self) -> Any:
        """Return the reference of a job that ended, or None after a while or when an actor came."""
        import ray

        self._crew.check()
        watched = [*self._running, *self._crew.starting]
        for reference in ray.wait(watched, num_returns=1, timeout=_TICK_S)[0]:
            if reference in self._running:
                return reference
            self._crew.admit(reference)
        self._grow()
        self._feed()
        return None

    def _grow(self) -> None:
        """Take in the nodes that joined."""
        if not self._grows or time.monotonic() - self._looked < _LOOK_S:
            return
        self._looked = time.monotonic()
        self.workers = self._crew.size = max(self.workers, room(self._gpus, self._bytes))
        self._crew.fill()

    def _retry(self, jobs: Sequence[Job], tries: int, error: Exception) -> None:
        if tries < _RETRIES:
            self._queue.extendleft(((job,), tries + 1) for job in reversed(jobs))
            return
        why = f"The worker died {tries + 1} times: {first_line(error)}"
        self._done.extend(Outcome(job, None, 0.0, why) for job in jobs)

    def _actor(self) -> Any:
        import ray

        body: Any = ray.remote(num_cpus=1, num_gpus=self._gpus)(Worker)
        nodes = scoring_nodes()
        self._asked += 1
        strategy = _preferring(nodes[self._asked % len(nodes)]) if nodes else "DEFAULT"
        return body.options(scheduling_strategy=strategy).remote(self._source, self._tables, self._gpus)

    def _feed(self) -> None:
        while self._queue and self._crew.idle:
            jobs, tries = self._queue.popleft()
            actor = self._crew.idle.pop()
            self._crew.busy += 1
            self._running[actor.run.remote(jobs)] = (jobs, tries, actor)


def on_cpu(source: S) -> S:
    """Return the source with its model on the CPU, as it travels: a worker's GPU need not be this process's.

    Args:
        source: Model, tokenizer and examples; it stays as it is.
    """
    if all(tensor.device.type == "cpu" for tensor in source.model.parameters()):
        return source
    sent = copy.copy(source)
    sent.model = copy.deepcopy(source.model).to("cpu")  # type: ignore[arg-type]  # transformers narrows torch
    return sent


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


def room(gpus: float, worker_bytes: int) -> int:
    """Return how many workers the cluster's nodes hold (>= 1), timing nodes left out unless they are all there is.

    Args:
        gpus: GPUs per worker.
        worker_bytes: Memory per worker.
    """
    nodes = _alive()
    nodes = [node for node in nodes if not _is_timer(node)] or nodes
    return max(1, sum(_fits(node["Resources"], gpus, worker_bytes) for node in nodes))


def _fits(resources: Mapping[str, float], gpus: float, worker_bytes: int) -> int:
    cpus = resources.get("CPU", 0.0)
    fits = min(cpus, resources.get("memory", cpus * worker_bytes) // worker_bytes)
    if gpus == 0:
        return int(fits)
    return int(min(fits, gpu_places(int(resources.get("GPU", 0.0)), gpus)))


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


def connect(address: str | None, workers: int | None) -> bool:
    """Join or start a cluster; return whether this call did, so that the caller ends it.

    Args:
        address: Address of a running cluster; None starts one on this machine.
        workers: Cores of the cluster that is started; None: all of this machine.

    A running cluster gets this program's code as its runtime environment: what autoprune needs must be
    installed on its nodes, autoprune itself not.

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
            ray.init(address=address, runtime_env=runtime_environment(), **quiet)
            return True
        # "local": without it Ray joins whatever cluster runs on this machine, or the remains of one.
        ray.init(address="local", num_cpus=workers, include_dashboard=False, **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
        raise WorkerError(
            f"Ray could not be reached or started: {' '.join(str(error).split())[:300]}",
            "Check --ray-address and the cluster's token (docs/cluster.md); --workers 1 scores in this process.",
        ) from error
    return True


def runtime_environment() -> dict[str, Any]:
    """Return what makes the cluster's workers run this program's code rather than what their node has."""
    return {"py_modules": [str(Path(__file__).parents[2])], "excludes": ["__pycache__/", "*.pyc"]}

"""Timing on nodes of a Ray cluster that carry the custom resource ``autoprune_timer``.

Start such a node with ``ray start --address=... --resources='{"autoprune_timer": 1}'``: one search at a time
holds it. With more than one, so many searches share it, and its timing lock lets them time in turn.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar

from autoprune.engine.checking import Verified, check_policies
from autoprune.engine.timing import Timer
from autoprune.errors import AutopruneError, ConfigError, MeasurementError
from autoprune.evaluate.pools.ray import TIMER_RESOURCE, connect, timer_nodes
from autoprune.latency.exclusive import kernel_boot_id
from autoprune.latency.hardware import Hardware, fingerprint
from autoprune.latency.threads import ThreadChoice, resolve_threads

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from autoprune.engine.events import Observer
    from autoprune.policy import PruningPolicy
    from autoprune.tasks.base import TaskSpec

T = TypeVar("T")
P = ParamSpec("P")
_PATIENCE_S = 10.0
_TIMEOUT_S = 1800.0


class _Actor:
    """The actor's body: holds what is timed, and runs functions on it."""

    def __init__(self) -> None:
        self._timer: Timer | None = None
        self._said: list[str] = []

    def ready(self) -> tuple[int, str, str]:
        """Return the process id, the id of the node, and what names its machine."""
        import ray

        return os.getpid(), str(ray.get_runtime_context().get_node_id()), kernel_boot_id()

    def hold(self, timer: Timer) -> None:
        self._timer = replace(timer, say=self._said.append)

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, list[str]]:
        """Return the function's value, or the error that it ends with, and what it had to say."""
        self._said.clear()
        try:
            value = function(self._timer, *args, **kwargs)
        except AutopruneError as error:
            value = error
        return value, list(self._said)


class NodePlace:
    """A timing node; an actor there holds the resource ``autoprune_timer`` until ``close``.

    Args:
        device: Torch device of the workload; a GPU is reserved for ``cuda``.
        hardware: Fingerprint of the timing nodes.
        say: Told when the node is busy with another search.

    Attributes:
        host: What names the machine of the actor.

    Raises:
        MeasurementError: Other searches held the nodes for half an hour.
    """

    def __init__(self, device: str, hardware: Hardware, say: Callable[[str], None]) -> None:
        self.hardware = hardware
        self._device, self._say = device, say
        self._held: Timer | None = None
        self._in_use = Lock()
        self.host = ""  # of the machine where the actor comes up
        self._actor = self._start()

    def threads(
        self, wanted: int | Literal["auto"], model: PreTrainedModel, inputs: Sequence[Mapping[str, Tensor]]
    ) -> ThreadChoice:
        """Return with how many threads the node is best timed."""
        choice: ThreadChoice = self._get(self._actor.call.remote(resolve_threads, wanted, model, list(inputs)))
        return choice

    def run(
        self, timer: Timer, function: Callable[Concatenate[Timer, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call the function on the node; the timer travels there once."""
        with self._in_use:
            if timer is not self._held:
                self._get(self._actor.hold.remote(replace(timer, say=None, stop=None)))
                self._held = timer
            value, said = self._get(self._actor.run.remote(function, *args, **kwargs))
        if timer.say is not None:
            for text in said:
                timer.say(text)
        if isinstance(value, AutopruneError):
            raise value
        found: T = value
        return found

    def verify(
        self, spec: TaskSpec, timer: Timer, policies: Sequence[PruningPolicy], limit_ratio: float | None
    ) -> list[Verified]:
        """Measure policies in an actor that was started for it: a fresh process on a timing node."""
        self.close()
        self._actor = self._start()
        return self.run(timer, check_all, list(policies), limit_ratio)

    def where(self) -> tuple[int, str]:
        """Return the process id of the actor and the id of its node."""
        pid, node, _ = self._get(self._actor.ready.remote())
        return pid, node

    def close(self) -> None:
        """Give the node back; a thread that waits for it hears of that before Ray is shut down."""
        import ray

        ray.kill(self._actor)
        self._held = None
        if self._in_use.acquire(timeout=_PATIENCE_S):
            self._in_use.release()

    def _start(self) -> Any:
        import ray
        from ray.exceptions import GetTimeoutError

        # No CPU: a node whose cores are all promised to scoring can still be held for timing.
        actor: Any = ray.remote(resources={TIMER_RESOURCE: 1}, **_share(self._device))(_Actor).remote()
        ready = actor.ready.remote()
        if not ray.wait([ready], timeout=_PATIENCE_S)[0]:
            self._say("timing     waits for a timing node: all are held by other searches")
        try:
            _, _, self.host = self._get(ready, _TIMEOUT_S)
        except GetTimeoutError:
            ray.kill(actor)
            raise MeasurementError(
                "Other searches held all timing nodes of the cluster for half an hour.",
                "Wait until they are done, or start another node with the resource autoprune_timer.",
            ) from None
        return actor

    def _get(self, reference: Any, timeout: float | None = None) -> Any:
        import ray
        from ray.exceptions import RayActorError

        try:
            return ray.get(reference, timeout=timeout)
        except RayActorError as error:
            raise MeasurementError(
                f"The process that times on the timing node died: {' '.join(str(error).split())[:200]}",
                "Run the same command again; it goes on where this one stopped.",
            ) from None


def check_all(timer: Timer, *args: Any) -> list[Verified]:
    """Return what ``check_policies`` yields: a generator cannot travel."""
    return list(check_policies(timer, *args))


@contextmanager
def open_node(address: str, device: str, observer: Observer) -> Iterator[NodePlace | None]:
    """Join the cluster and hold one of its timing nodes; None where it has none, which is said.

    Raises:
        ConfigError: The timing nodes have different hardware.
        WorkerError: The cluster cannot be reached.
    """
    import ray

    joined = connect(address, 1)
    node: NodePlace | None = None
    try:
        nodes = timer_nodes()
        if nodes:
            hardware = one_kind(_fingerprints(nodes, device))
            node = NodePlace(device, hardware, observer.message)
            name = nodes.get(node.where()[1], "a node")
            observer.message(f"timing     on {name} ({TIMER_RESOURCE}): {hardware.describe()}")
        else:
            observer.message(f"timing     on this host: no node of the cluster has the resource {TIMER_RESOURCE}")
        yield node
    finally:
        if node is not None:
            node.close()
        if joined:
            ray.shutdown()


def one_kind(found: Mapping[str, Hardware]) -> Hardware:
    """Return the hardware that all timing nodes share.

    Args:
        found: Fingerprint by the node's name.

    Raises:
        ConfigError: They differ; milliseconds of one would say nothing about the other.
    """
    digests = {hardware.digest() for hardware in found.values()}
    if len(digests) == 1:
        return next(iter(found.values()))
    names = "; ".join(
        f"{name} is {hardware.describe()} ({hardware.digest()[:8]})" for name, hardware in sorted(found.items())
    )
    raise ConfigError(
        f"The timing nodes of the cluster are not of one kind: {names}.",
        f"Leave the resource {TIMER_RESOURCE} to nodes of one kind.",
    )


def _fingerprints(nodes: Mapping[str, str], device: str) -> dict[str, Hardware]:
    """Ask each timing node for its hardware, beside whoever holds it."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # max_calls=1: the process ends, so that no timing actor inherits it.
    ask: Any = ray.remote(max_calls=1, **_share(device))(_look)
    asked = {
        f"{name} ({node[:8]})": ask.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
        ).remote()
        for node, name in nodes.items()
    }
    return dict(zip(asked, ray.get(list(asked.values())), strict=True))


def _look() -> Hardware:
    return fingerprint()


def _share(device: str) -> dict[str, Any]:
    """Return what an actor reserves: Ray hides all GPUs from one that asks for none."""
    return {"num_cpus": 0, "num_gpus": 1 if device.startswith("cuda") else 0}

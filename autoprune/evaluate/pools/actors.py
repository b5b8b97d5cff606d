"""Ray actors that score: started where there is room, replaced when they die, and counted out when none can live."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from autoprune.errors import WorkerError
from autoprune.evaluate.evaluator import Evaluator, ExampleSource, Job, Outcome
from autoprune.evaluate.group import run_group
from autoprune.latency.exclusive import kernel_boot_id
from autoprune.pruning.tables import TableSet

_SETTLE_S = 30.0  # how long a pool waits for its other actors once the first is ready
_ANSWER_S = 10.0  # an idle actor that is silent for so long counts as dead
_FAILED_STARTS = 3  # in a row, per actor of the crew: then no more are started
_TICK_S = 1.0


class Worker:
    """The actor's body: one evaluator on one core, on a share of a GPU if it was given one.

    Args:
        source: Model, tokenizer and examples.
        tables: Tables that policies refer to.
        gpus: GPUs reserved for this actor (0: score on the CPU).

    Raises:
        WorkerError: A GPU is reserved, and torch sees none.
    """

    def __init__(self, source: ExampleSource, tables: TableSet, gpus: float = 0.0) -> None:
        import torch

        torch.set_num_threads(1)
        if gpus > 0:
            if not torch.cuda.is_available():
                raise WorkerError(
                    f"{gpus:g} GPUs are reserved for a worker, but its torch {torch.__version__} finds no CUDA device.",
                    "Install a CUDA build of torch on the nodes, or score on CPUs.",
                )
            source.model.to("cuda")  # type: ignore[arg-type]  # transformers narrows the overloads of torch
        self._device = str(source.model.device)
        self._evaluator = Evaluator(source, tables)

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Score a group of jobs."""
        return run_group(self._evaluator, jobs)

    def ready(self) -> tuple[int, str]:
        """Return the process id, and what names the machine; empty if the kernel does not say."""
        return os.getpid(), kernel_boot_id()

    def where(self) -> str:
        """Return the id of the actor's node."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def device(self) -> str:
        """Return the torch device of the model."""
        return self._device


class Crew:
    """The actors of one pool.

    Args:
        size: Actors wanted (>= 1).
        make: Asks Ray for one more actor; it need not be placed at once.
        patience: Seconds without any live actor after which the crew gives up.
        wants: What an actor reserves, in words.

    Attributes:
        size: Actors wanted; more are asked for when it is raised and ``fill`` is called.
        idle: Actors that can take a job.
        busy: Number of actors that work; the pool keeps it.
        hosts: What names the machine of each actor that is ready, at work or not.
        starting: Actors that were asked for and are not ready, by the reference of their first answer.
    """

    def __init__(self, size: int, make: Callable[[], Any], patience: float, wants: str) -> None:
        self.size = size
        self.idle: list[Any] = []
        self.busy = 0
        self.hosts: dict[Any, str] = {}
        self.starting: dict[Any, Any] = {}
        self._asked_at: dict[Any, float] = {}
        self._make, self._patience, self._wants = make, patience, wants
        self._failed, self._why = 0, ""
        self._last_seen = time.monotonic()
        self.fill()

    @property
    def _limit(self) -> int:
        return _FAILED_STARTS * self.size

    @property
    def live(self) -> int:
        """Actors that are ready, at work or not."""
        return len(self.idle) + self.busy

    def fill(self) -> None:
        """Ask for the actors that are missing; cores that are taken now may be free later."""
        while self.live + len(self.starting) < self.size and self._failed < self._limit:
            actor = self._make()
            reference = actor.ready.remote()
            self.starting[reference], self._asked_at[reference] = actor, time.monotonic()

    def admit(self, reference: Any) -> None:
        """Take an actor whose first answer has come, or replace it if the answer is an error."""
        import ray
        from ray.exceptions import RayError

        actor = self.starting.pop(reference)
        self._asked_at.pop(reference, None)
        try:
            _, host = ray.get(reference)
        except RayError as error:
            self._failed, self._why = self._failed + 1, first_line(error)
            stop(actor)
            if getattr(error, "actor_init_failed", False) and not self.live:
                # What an actor raises while it starts the others raise too; a death may be an accident.
                self._failed = self._limit
                self._dismiss(self.starting.values())
                self.starting.clear()
            self.fill()
            return
        self._failed = 0
        self._last_seen = time.monotonic()
        self.hosts[actor] = host
        self.idle.append(actor)

    def replace(self, actor: Any) -> None:
        """Give up an actor that failed, and every idle one that died with it: they may share a node."""
        self._dismiss([actor])
        alive = self.answers("ready")
        self._dismiss(one for one in self.idle if one not in alive)
        self.idle = list(alive)
        self.fill()

    def answers(self, method: str) -> dict[Any, Any]:
        """Return what the idle actors say to a call, by actor; one that is dead or silent is left out.

        Args:
            method: Name of a method of the actors without arguments.
        """
        import ray
        from ray.exceptions import RayError

        asked = {getattr(actor, method).remote(): actor for actor in self.idle}
        found = ray.wait(list(asked), num_returns=len(asked), timeout=_ANSWER_S)[0] if asked else []
        answers = {}
        for reference in found:
            try:
                answers[asked[reference]] = ray.get(reference)
            except RayError:
                continue
        return answers

    def await_first(self) -> None:
        """Wait until all actors are ready, or some are and the others take long.

        Raises:
            WorkerError: None could be started.
        """
        import ray

        deadline = None
        while self.starting:
            self.check()
            for reference in ray.wait(list(self.starting), num_returns=1, timeout=_TICK_S)[0]:
                self.admit(reference)
            if self.live and deadline is None:
                deadline = time.monotonic() + _SETTLE_S
            if deadline is not None and time.monotonic() > deadline:
                return
        self.check()

    def settle(self) -> None:
        """Wait until none is starting, but no longer than half a minute from when it was asked for."""
        import ray

        while late := [r for r in self.starting if time.monotonic() - self._asked_at[r] < _SETTLE_S]:
            for reference in ray.wait(late, num_returns=1, timeout=_TICK_S)[0]:
                self.admit(reference)

    def check(self) -> None:
        """See to it that somebody lives.

        Raises:
            WorkerError: No actor is alive, and none could be started in time.
        """
        if self.live:
            self._last_seen = time.monotonic()
            return
        if self.starting and time.monotonic() - self._last_seen < self._patience:
            return
        if self.starting:
            why = f"none came up within {self._patience:.0f} seconds; each needs {self._wants}, free now: {_free()}"
        else:
            why = f"all attempts failed, the last with {self._why}"
        raise WorkerError(
            f"No scoring worker is left, and none could be started: {why}.",
            "What was finished is kept. Start nodes or free them, then run the same command again; "
            "or score in this process with --workers 1.",
        )

    def close(self) -> None:
        """End the actors that are idle or starting."""
        self._dismiss((*self.idle, *self.starting.values()))
        self.idle.clear()
        self.starting.clear()
        self.size = 0

    def _dismiss(self, actors: Iterable[Any]) -> None:
        for actor in actors:
            self.hosts.pop(actor, None)
            stop(actor)


def stop(actor: Any) -> None:
    """End an actor for good, dead or alive, so that its core is free."""
    import ray
    from ray.exceptions import RayError

    try:
        ray.kill(actor)
    except (RayError, ValueError):  # it is gone already
        return


def first_line(error: Exception) -> str:
    """Return an error's type and the line of its text that says most."""
    lines = [line.strip() for line in re.sub(r"\x1b\[\d*m", "", str(error)).splitlines() if line.strip()] or [""]
    # What an actor raised while it started ends the traceback that Ray gives.
    said = lines[-1] if getattr(error, "actor_init_failed", False) else lines[0]
    return f"{type(error).__name__}: {said[:300]}"


def _free() -> str:
    import ray

    free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
    return ", ".join(f"{free.get(name, 0):g} {name}" for name in ("CPU", "GPU"))

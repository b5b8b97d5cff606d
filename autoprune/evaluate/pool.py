"""What every pool offers, and the choice between them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Protocol, cast

import psutil

from autoprune._registry import POOLS
from autoprune.errors import ConfigError
from autoprune.evaluate.evaluator import ExampleSource, Job, Outcome

if TYPE_CHECKING:
    from autoprune.pruning.tables import TableSet

PROCESS_BYTES = 900 * 2**20
"""Memory of a worker: torch, transformers and Ray in one process, without the model."""


class Pool(Protocol):
    """Scores jobs; results come as they arrive, in any order."""

    workers: int

    @property
    def pending(self) -> int:
        """Jobs submitted and not yet returned."""
        ...

    @property
    def wanted(self) -> int:
        """Jobs that can be submitted without waiting."""
        ...

    def submit(self, *jobs: Job) -> None:
        """Take jobs, each of which becomes an outcome of its own.

        Those that are submitted together go to one worker, which does once what neighbours have in common (``group``).
        """
        ...

    def next(self) -> Outcome:
        """Wait for any job to end and return its outcome."""
        ...

    def wait(self, until: Callable[[], bool]) -> None:
        """Wait until ``next`` need not wait, or, where the pool can do so, until something else has happened.

        Args:
            until: Asked about once a second.
        """
        ...

    def settle(self) -> None:
        """Wait until nothing that this pool started is still loading: then the machine can be timed.

        Call it when no job is pending. The wait has an end: workers for which there is no room never come.
        """
        ...

    def apart(self, host: str) -> bool:
        """Return whether a machine can be timed while jobs run: no worker computes there, and none is starting.

        Args:
            host: What names the machine, ``kernel_boot_id()`` there.
        """
        ...

    def close(self) -> None:
        """Release workers and memory."""
        ...


def fitting_workers(model_bytes: int) -> int:
    """Return how many workers this machine holds: one per core, as far as memory reaches.

    Args:
        model_bytes: Size of the model's weights.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    by_memory = int(psutil.virtual_memory().available // (PROCESS_BYTES + 2 * model_bytes))
    return max(1, min(cores, by_memory))


def check_gpus(workers: int | Literal["auto"], gpus: float) -> None:
    """Refuse Ray workers that want more GPUs than this machine has: they would wait for them in vain.

    Args:
        workers: Number of workers, or ``auto``: as many as there is room for.
        gpus: GPUs per worker; 0 needs none.

    Raises:
        ConfigError: There are too few.
    """
    if gpus <= 0:
        return
    import torch

    found, count = torch.cuda.device_count(), 1 if workers == "auto" else workers
    if count > gpu_places(found, gpus):
        raise ConfigError(
            f"--gpus-per-worker {gpus:g}: there is no room for {count} such worker(s), "
            f"since torch {torch.__version__} finds {found} CUDA device(s) on this machine.",
            "Lower --workers or --gpus-per-worker (0 scores on CPUs), or use a cluster with --ray-address.",
        )


def gpu_places(found: int, gpus: float) -> int:
    """Return how many workers the GPUs of one node hold.

    Args:
        found: GPUs of the node.
        gpus: GPUs per worker (> 0). A share does not span GPUs: two workers of 0.6 need two of them.
    """
    return found * int(1 / gpus) if gpus <= 1 else int(found // gpus)


def open_pool(
    source: ExampleSource,
    tables: TableSet,
    workers: int | Literal["auto"],
    ray_address: str | None,
    gpus: float = 0.0,
) -> Pool:
    """Start the pool that the options ask for.

    ``auto`` takes Ray as soon as more than one worker fits the machine; on a cluster it takes all the room
    there is, and nodes that join later.

    Args:
        source: Model, tokenizer and examples.
        tables: Tables that policies refer to.
        workers: Number of workers (>= 1), or ``auto``.
        ray_address: Address of a running cluster; None: this machine.
        gpus: GPUs per worker (0.25: four workers share one); 0 scores on CPUs.

    Raises:
        ConfigError: The number of workers or of GPUs makes no sense.
        WorkerError: Ray cannot be reached or started.
    """
    if isinstance(workers, int) and workers < 1:
        raise ConfigError(f"--workers must be at least 1, not {workers}.")
    if gpus < 0 or (gpus > 1 and gpus != int(gpus)):
        raise ConfigError(f"GPUs per worker must be 0, a share of one (0.25) or a whole number, not {gpus:g}.")
    model_bytes = sum(p.numel() * p.element_size() for p in source.model.parameters())
    count = fitting_workers(model_bytes) if workers == "auto" else workers
    if ray_address is None and gpus == 0:
        if count == 1:
            return cast(Pool, POOLS.get("local")(source, tables))
        return cast(Pool, POOLS.get("ray")(source, tables, count))
    everywhere = None if workers == "auto" else count
    return cast(Pool, POOLS.get("ray")(source, tables, everywhere, ray_address, gpus))

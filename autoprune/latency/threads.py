"""How many CPU threads to time with, and pinning them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import psutil

from autoprune.errors import ConfigError
from autoprune.latency.machine import CpuFacts, cpu_facts
from autoprune.latency.meter import interleave

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_TRIAL_ROUNDS = 7
_TRIAL_SECONDS = 6.0
_WORTH = 0.9  # more threads must take at most this share of one thread's time, or they are not worth their noise
_SLEEP_S = 0.1

Trial = Callable[[int], Any]
"""Runs one forward with so many threads."""


@dataclass(frozen=True)
class ThreadChoice:
    """How many threads, and why.

    Attributes:
        count: CPU threads.
        reason: Why, in words.
        tried: Whether forwards were timed to find out.
    """

    count: int
    reason: str
    tried: bool = False


def resolve_threads(
    wanted: int | Literal["auto"],
    model: PreTrainedModel | None = None,
    inputs: Sequence[Any] = (),
    *,
    trial: Trial | None = None,
    facts: CpuFacts | None = None,
    clock: Callable[[], int] | None = None,
) -> ThreadChoice:
    """Turn ``--threads`` into a number.

    ``auto`` takes the cores that quota and affinity leave, minus those that other processes use, and
    tries that many against one thread, in turn: more must be clearly faster, at the median and in
    the tail. On a loaded machine several threads wait for the slowest of them.

    Args:
        wanted: A number (>= 1), or ``auto``.
        model: For the trial; the first of ``inputs`` is run.
        inputs: Model inputs.
        trial: Replaces model and inputs: runs one forward with so many threads.
        facts: What the CPU looks like; None looks now.
        clock: Monotonic nanoseconds, for tests.

    Raises:
        ConfigError: The number is under 1, or over the machine's cores.
    """
    facts = facts or cpu_facts()
    if wanted != "auto":
        return _as_asked(wanted, facts)
    limits = _limits_in_words(facts)
    if facts.usable == 1:
        return ThreadChoice(1, f"one core is usable{limits}")
    free = max(1, facts.usable - round(facts.busy))
    if free == 1:
        return ThreadChoice(1, f"other processes use {facts.busy:.1f} of {facts.usable} usable cores{limits}")
    if trial is None and model is not None and inputs:
        trial = _model_trial(model, inputs[0])
    if trial is None:
        return ThreadChoice(free, f"{free} cores are free{limits}; not tried")
    return _by_trial(free, trial, limits, clock)


def _as_asked(wanted: int, facts: CpuFacts) -> ThreadChoice:
    if wanted < 1:
        raise ConfigError(f"{wanted} threads cannot run anything.", "Use --threads auto or a number from 1.")
    if wanted > facts.visible:
        raise ConfigError(
            f"{wanted} threads on {facts.visible} cores would only wait for each other.",
            f"Use --threads auto or a number up to {facts.visible}.",
        )
    over = f"; that is more than the {facts.usable} usable cores" if wanted > facts.usable else ""
    return ThreadChoice(wanted, f"as asked{over}")


def _limits_in_words(facts: CpuFacts) -> str:
    limits = []
    if facts.quota is not None and facts.quota < facts.visible:
        limits.append(f"CPU quota {facts.quota:g}")
    if facts.allowed < facts.visible:
        limits.append(f"affinity {facts.allowed} of {facts.visible}")
    if facts.physical < facts.visible:
        limits.append(f"{facts.physical} physical cores")
    return f" ({', '.join(limits)})" if limits else ""


def _by_trial(many: int, trial: Trial, limits: str, clock: Callable[[], int] | None) -> ThreadChoice:
    arms: dict[str, Callable[[], Any]] = {"one": lambda: trial(1), "many": lambda: trial(many)}
    options: dict[str, Any] = {} if clock is None else {"clock": clock}
    samples = interleave(arms, _TRIAL_ROUNDS, warmup=2, max_seconds=_TRIAL_SECONDS, **options)
    (one, one_tail), (more, more_tail) = (np.quantile(samples[name], (0.5, 0.9)) / 1e6 for name in ("one", "many"))
    figures = f"{many} threads take {more:.1f} ms (p90 {more_tail:.1f}), one takes {one:.1f} (p90 {one_tail:.1f})"
    better = more <= _WORTH * one and more_tail <= one_tail
    return ThreadChoice(many if better else 1, f"{figures}{limits}", tried=True)


def _model_trial(model: PreTrainedModel, batch: Any) -> Trial:
    import torch

    def trial(threads: int) -> None:
        with _torch_threads(threads), torch.inference_mode():
            model(**batch)

    return trial


@contextlib.contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def pin_threads(count: int) -> Iterator[None]:
    """Compute with ``count`` threads on the idlest ``count`` CPUs inside the ``with`` block.

    Where the system has no affinity calls (macOS, Windows), or no CPU would be left out, only the
    number of threads is set. Threads that the block starts get the old affinity back at its end.
    """
    with _torch_threads(count), _affinity(count):
        yield


@contextlib.contextmanager
def _affinity(count: int) -> Iterator[None]:
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    if count >= len(allowed):
        yield
        return
    known = _thread_ids()
    os.sched_setaffinity(0, idlest(allowed, count))
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
        for thread in _thread_ids() - known:
            with contextlib.suppress(OSError):  # it ended meanwhile
                os.sched_setaffinity(thread, allowed)


def idlest(allowed: set[int], count: int, load: Callable[[], list[float]] | None = None) -> set[int]:
    """Return the ``count`` CPUs of ``allowed`` that are least busy now; ties: the higher number.

    Args:
        allowed: CPU numbers.
        count: How many are wanted.
        load: Returns the busy share of each CPU of the machine; None looks for a tenth of a second.
    """
    busy = (load or (lambda: psutil.cpu_percent(_SLEEP_S, percpu=True)))()
    # CPU 0 serves most interrupts, so of equals the higher number is taken.
    return set(sorted(allowed, key=lambda cpu: (round(busy[cpu]) if cpu < len(busy) else 0, -cpu))[:count])


def _thread_ids() -> set[int]:
    try:
        return {int(name) for name in os.listdir("/proc/self/task")}
    except OSError:
        return set()

import os
import threading

import pytest
import torch

from autoprune.errors import ConfigError
from autoprune.latency.machine import CpuFacts
from autoprune.latency.threads import idlest, pin_threads, resolve_threads

QUIET = CpuFacts(visible=4, allowed=4, physical=4)


class Trial:
    """One forward with so many threads, on a clock that moves by what it takes."""

    def __init__(self, one_ms: float, many_ms: float, stall_every: int = 0) -> None:
        self.now, self.calls = 0, 0
        self.one_ms, self.many_ms, self.stall_every = one_ms, many_ms, stall_every

    def clock(self) -> int:
        return self.now

    def __call__(self, threads: int) -> None:
        took = self.one_ms if threads == 1 else self.many_ms
        self.calls += threads > 1
        if threads > 1 and self.stall_every and self.calls % self.stall_every == 0:
            took *= 10
        self.now += int(took * 1e6)


def test_many_threads_when_they_are_clearly_faster() -> None:
    trial = Trial(50, 20)
    choice = resolve_threads("auto", trial=trial, facts=QUIET, clock=trial.clock)
    assert choice.count == 4
    assert "4 threads take 20.0 ms" in choice.reason


@pytest.mark.parametrize("trial", [Trial(50, 48), Trial(50, 79), Trial(50, 20, stall_every=3)])
def test_one_thread_when_many_gain_little_or_stall(trial: Trial) -> None:
    choice = resolve_threads("auto", trial=trial, facts=QUIET, clock=trial.clock)
    assert choice.count == 1


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (CpuFacts(visible=8, allowed=8, physical=8, quota=1.5), "CPU quota 1.5"),
        (CpuFacts(visible=8, allowed=1, physical=8), "affinity 1 of 8"),
        (CpuFacts(visible=2, allowed=2, physical=1), "1 physical cores"),
        (CpuFacts(visible=2, allowed=2, physical=2, busy=1.1), "other processes use 1.1"),
    ],
)
def test_one_thread_without_a_trial_where_only_one_core_is_free(facts: CpuFacts, words: str) -> None:
    def never(threads: int) -> None:
        raise AssertionError("no trial is needed")

    choice = resolve_threads("auto", trial=never, facts=facts)
    assert choice.count == 1
    assert words in choice.reason


def test_busy_cores_are_left_out_of_the_trial() -> None:
    trial = Trial(50, 20)
    busy = CpuFacts(visible=4, allowed=4, physical=4, busy=1.9)
    assert resolve_threads("auto", trial=trial, facts=busy, clock=trial.clock).count == 2


def test_a_number_is_taken_as_it_is() -> None:
    assert resolve_threads(3, facts=QUIET).count == 3
    shared = CpuFacts(visible=4, allowed=2, physical=4)
    assert "more than the 2 usable" in resolve_threads(3, facts=shared).reason
    for wrong in (0, 9):
        with pytest.raises(ConfigError):
            resolve_threads(wrong, facts=QUIET)


def test_model_trial_runs_the_model_and_restores_threads(bert: torch.nn.Module, make_batch: object) -> None:
    before, seen = torch.get_num_threads(), []
    bert.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    facts = CpuFacts(visible=2, allowed=2, physical=2)
    resolve_threads("auto", bert, [make_batch(8)], facts=facts)  # type: ignore[operator, arg-type, list-item]
    assert {1, 2} <= set(seen)
    assert torch.get_num_threads() == before


def test_pin_threads_restores_threads_and_affinity() -> None:
    before = torch.get_num_threads()
    affinity = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    with pin_threads(1):
        assert torch.get_num_threads() == 1
        if len(affinity) > 1:
            assert len(os.sched_getaffinity(0)) == 1
            with pin_threads(1):
                assert len(os.sched_getaffinity(0)) == 1
    assert torch.get_num_threads() == before
    if affinity:
        assert os.sched_getaffinity(0) == affinity


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity calls on this system")
def test_threads_started_while_pinned_are_set_free() -> None:
    affinity, go, seen = os.sched_getaffinity(0), threading.Event(), []

    def body() -> None:
        go.wait(10)
        seen.append(os.sched_getaffinity(0))

    thread = threading.Thread(target=body)
    with pytest.raises(RuntimeError), pin_threads(1):
        thread.start()
        raise RuntimeError
    go.set()
    thread.join()
    assert seen == [affinity]


def test_idlest_takes_quiet_cpus_and_avoids_cpu_0() -> None:
    assert idlest({0, 1, 2, 3}, 2, lambda: [0.0, 90.0, 0.0, 3.0]) == {0, 2}
    assert idlest({0, 1, 2, 3}, 1, lambda: [0.0, 0.0, 0.0, 0.0]) == {3}

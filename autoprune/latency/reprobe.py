"""Whether a stored probe still tells the truth: dense and the floor are timed again, and the rest is taken over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from autoprune.latency.exclusive import timing_lock
from autoprune.latency.machine import machine_warnings
from autoprune.latency.meter import Meter, MeterSettings, PairedTiming
from autoprune.latency.overheads import Bench, reducer_choices, scorer_choices
from autoprune.latency.probe_result import ProbeResult
from autoprune.latency.runners import device_timer, make_runner
from autoprune.latency.sweep import flat_regions
from autoprune.latency.threads import pin_threads
from autoprune.spaces.choices import ReducerChoice, ScorerChoice

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from autoprune.latency.workload import Workload

TOLERANCE = 0.1
_SETTINGS = MeterSettings(min_rounds=4, max_rounds=12, max_warmup_rounds=3, max_seconds=6.0)
_NOT_MEASURED = ": its cost was not measured"


@dataclass(frozen=True)
class Recheck:
    """What became of a stored probe.

    Attributes:
        result: The stored probe with dense and floor measured anew, or None: probe again.
        why: What was compared, in words.
    """

    result: ProbeResult | None
    why: str


def covers(
    stored: ProbeResult,
    scorers: Iterable[str | ScorerChoice] | None,
    reducers: Iterable[str | ReducerChoice] | None,
) -> bool:
    """Say whether a stored probe knows the cost of these scorers and reducers, or why it cannot be known.

    Args:
        stored: The stored probe.
        scorers: As ``probe`` takes them.
        reducers: Likewise.
    """
    table = stored.cost_table
    noted = {note.split(_NOT_MEASURED)[0].removeprefix("reduce:") for note in stored.notes if _NOT_MEASURED in note}
    known = {name.split("@")[0] for name in table.scorers} | {*table.reducers, "drop"} | noted
    wanted = {choice.label for choice in scorer_choices(scorers)}
    others = {choice.label for choice in reducer_choices(reducers)}
    return wanted | others <= known


def adopt(new: ProbeResult, old: ProbeResult) -> ProbeResult:
    """Return a probe with the costs of methods that only an older one of the same place knows.

    Args:
        new: Measured now.
        old: Of the same hardware, model and workload; its costs are scaled to the new one's dense.
    """
    scale = new.dense.p50 / old.dense.p50
    table, before = new.cost_table, old.cost_table
    scorers = {label: line.times(scale) for label, line in before.scorers.items() if label not in table.scorers}
    reducers = {label: line.times(scale) for label, line in before.reducers.items() if label not in table.reducers}
    missing = [note for note in old.notes if _NOT_MEASURED in note and note not in new.notes]
    return replace(
        new,
        cost_table=table.with_costs(scorers, reducers),
        scorer_ms={**new.scorer_ms, **{label: old.scorer_ms[label] * scale for label in scorers}},
        notes=[*new.notes, *missing],
    )


def recheck(
    stored: ProbeResult,
    model: PreTrainedModel,
    inputs: Sequence[Mapping[str, Tensor]],
    workload: Workload,
    *,
    statistic: str = "p50",
    tokenizer: Any = None,
    progress: Callable[[str], None] | None = None,
) -> Recheck:
    """Time dense again, in pairs with the stored floor policy, and take the stored probe over if dense fits.

    A result that is taken over has today's dense, floor and warnings; the sweep and the cost table are
    the stored ones. They steer alone, and the search scales them to today's dense.

    Args:
        stored: A probe of the same model and workload on the same hardware.
        model: Prepared by ``prepare_model``, without a policy.
        inputs: The workload's inputs, one per length.
        workload: What is timed.
        statistic: The budget's statistic.
        tokenizer: Names the special tokens.
        progress: Is told when this waits for others, and what takes seconds.
    """
    with timing_lock(progress=progress):
        notes = machine_warnings(threads=workload.threads)
        with pin_threads(workload.threads):
            timing = _pair(stored, model, inputs, workload, statistic, tokenizer, progress)
    now, then = timing.stats("dense").p50, stored.dense.p50
    why = f"dense takes {now:.1f} ms, {now / then - 1:+.0%} against the stored {then:.1f} ms"
    if timing.drifted:
        return Recheck(None, f"{why}; {timing.noise_cause}")
    if abs(now / then - 1) > TOLERANCE:
        return Recheck(None, why)
    return Recheck(_renewed(stored, timing, statistic, notes), why)


def _pair(
    stored: ProbeResult,
    model: PreTrainedModel,
    inputs: Sequence[Mapping[str, Tensor]],
    workload: Workload,
    statistic: str,
    tokenizer: Any,
    say: Callable[[str], None] | None,
) -> PairedTiming:
    bench = Bench(model, workload, inputs[0], tokenizer, n_protected=0, middle=1, say=say)
    with ExitStack() as stack:
        runner = bench.attached(stack, stored.floor_policy, inputs)
        meter = Meter(_SETTINGS, timer=device_timer(workload.device))
        return meter.measure(make_runner(model, workload, inputs, say), runner, inputs, statistic)


def _renewed(stored: ProbeResult, timing: PairedTiming, statistic: str, warnings: list[str]) -> ProbeResult:
    dense, ratio = timing.stats("dense"), timing.ratio(statistic)
    missing = [note for note in stored.notes if _NOT_MEASURED in note]
    return replace(
        stored,
        dense=dense,
        dense_timing=timing,
        floor_ms=ratio * dense.get(statistic),
        floor_ratio=ratio,
        floor_ratio_ci=timing.interval(statistic),
        notes=[*warnings, *flat_regions(stored.sweep), *missing],
        seconds=timing.seconds,
        statistic=statistic,
    )

"""The probe: within seconds, what this machine makes of fewer tokens, and how low latency can go."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from autoprune._registry import SCORERS
from autoprune.errors import AutopruneError, MeasurementError
from autoprune.latency.consumption import flops, model_bytes
from autoprune.latency.cost_table import CostTable, Points
from autoprune.latency.exclusive import timing_lock
from autoprune.latency.machine import machine_warnings
from autoprune.latency.memory import forward_peak_bytes
from autoprune.latency.meter import Meter, MeterSettings, PairedTiming, interleave
from autoprune.latency.overheads import Bench, measure_overheads, reducer_choices, scorer_choices
from autoprune.latency.probe_result import ProbeResult
from autoprune.latency.runners import device_timer, make_runner, n_tokens, shorten
from autoprune.latency.stats import NS_PER_MS, IntArray
from autoprune.latency.sweep import (
    LayerClock,
    SweepPoint,
    export_points,
    flat_regions,
    layer_arms,
    split_layers,
    staircase,
    sweep_points,
)
from autoprune.latency.threads import pin_threads
from autoprune.policy import PruningPolicy, Stage
from autoprune.pruning.families import Family, family_of
from autoprune.pruning.protect import protected_count
from autoprune.spaces.choices import ReducerChoice, ScorerChoice

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from autoprune.latency.workload import Workload

__all__ = ["ProbeResult", "probe"]

_PASSES = 20  # dense forwards' worth that a point may take
_SWEEP_ROUNDS = 10
_OVERHEAD_ROUNDS = 8
_FIRST_TOKEN_POINTS = 4
_APART = 0.1  # dense measured twice within seconds should agree this well
_TINY = 1e-9  # a keep that leaves the protected tokens alone


def probe(
    model: PreTrainedModel,
    inputs: Sequence[Mapping[str, Tensor]],
    workload: Workload,
    *,
    statistic: str = "p50",
    progress: Callable[[str], None] | None = None,
    tokenizer: Any = None,
    scorers: Iterable[str | ScorerChoice] | None = None,
    reducers: Iterable[str | ReducerChoice] | None = None,
    tokens: Sequence[int] | None = None,
    tokenize: Callable[[int], Mapping[str, Tensor]] | None = None,
    memory: bool = False,
) -> ProbeResult:
    """Measure what a search needs to know before it starts, alone on the machine.

    No point takes more than 20 dense forwards' worth; with the runtime onnxruntime each is exported before, and
    there are fewer of them.

    Args:
        model: Prepared by ``prepare_model``, without a policy.
        inputs: The workload's inputs, one per length.
        workload: What is timed.
        statistic: The budget's statistic: the floor is given in it.
        progress: Is told in words what happens.
        tokenizer: Names the special tokens; None: see ``attach``.
        scorers: Whose cost to measure, such as those of the search space, by name or with parameters; None
            takes ``QUICK_SCORERS``, () none. The table charges the others as the dearest measured one.
        reducers: Likewise; None takes ``QUICK_REDUCERS``.
        tokens: Points of the sweep; None takes a ladder up to the longest input.
        tokenize: Turns input number i from text into tensors, for the end-to-end figure.
        memory: Whether to measure peak memory in a fresh process (some seconds more).

    Raises:
        UnsupportedModelError: The family is not in the table.
        MeasurementError: Others kept timing on this machine, or there is no input.
    """
    if not inputs:
        raise MeasurementError("There is no input to probe with.", "Ask for at least one sequence length.")
    say = progress or (lambda _: None)
    began, family = time.monotonic(), family_of(model)
    with timing_lock(progress=progress):
        notes = machine_warnings(threads=workload.threads)
        with pin_threads(workload.threads):
            prober = _Prober(model, inputs, workload, statistic, tokenizer, family, progress)
            say("dense and the floor")
            floor_policy, timing = prober.floor()
            say("latency against tokens")
            table, points = prober.sweep(tokens)
            say("what scoring costs")
            table, missing = prober.overheads(table, scorers, reducers)
            end_to_end = prober.end_to_end(tokenize) if tokenize else None
            if prober.apart(timing, table) > _APART:
                say("dense and the floor once more: they do not fit the latencies measured after them")
                floor_policy, timing = prober.floor()
            if prober.apart(timing, table) > _APART:
                notes.append("disturbed: dense alone and dense in the sweep differ by over 10 %; probe again later")
        if memory:
            say("peak memory in a fresh process")
        peak = forward_peak_bytes(model, workload, n_tokens(prober.longest)) if memory else None
    dense, ratio = timing.stats("dense"), timing.ratio(statistic)
    if timing.drifted:
        notes.append(f"disturbed: {timing.noise_cause}")
    return ProbeResult(
        dense=dense,
        dense_timing=timing,
        sweep=points,
        floor_policy=floor_policy,
        floor_ms=ratio * dense.get(statistic),
        floor_ratio=ratio,
        floor_ratio_ci=timing.interval(statistic),
        cost_table=table,
        scorer_ms={name: line.at(n_tokens(prober.longest)) for name, line in table.scorers.items()},
        notes=notes + flat_regions(points) + missing,
        seconds=time.monotonic() - began,
        end_to_end_ms=end_to_end,
        memory_peak=peak,
        model_bytes=model_bytes(model),
        dense_flops=flops(model, prober.longest),
        statistic=statistic,
    )


class _Prober:
    """The steps of ``probe`` on one model."""

    def __init__(
        self,
        model: PreTrainedModel,
        inputs: Sequence[Mapping[str, Tensor]],
        workload: Workload,
        statistic: str,
        tokenizer: Any,
        family: Family,
        say: Callable[[str], None] | None,
    ) -> None:
        self.model, self.inputs, self.workload = model, list(inputs), workload
        self.statistic, self.family = statistic, family
        self.longest = max(inputs, key=n_tokens)
        self.n_protected = _protected(model, self.longest, tokenizer)
        self.dense = make_runner(model, workload, self.inputs, say)
        middle = max(1, family.n_layers(model) // 2)
        self.bench = Bench(model, workload, self.longest, tokenizer, self.n_protected, middle, say)
        self._timer = device_timer(workload.device)

    def floor(self) -> tuple[PruningPolicy, PairedTiming]:
        """Time dense and the strongest policy that fits the model, in pairs, on all inputs."""
        rounds = max(3, -(-_PASSES // len(self.inputs)))
        settings = MeterSettings(min_rounds=rounds, max_rounds=rounds, max_warmup_rounds=3, max_seconds=60.0)
        refusals = []
        for policy in _strongest_policies(self.family, n_tokens(self.longest)):
            with ExitStack() as stack:
                try:
                    runner = self.bench.attached(stack, policy, self.inputs)
                except AutopruneError as error:
                    refusals.append(error)
                    continue
                meter = Meter(settings, timer=self._timer)
                return policy, meter.measure(self.dense, runner, self.inputs, self.statistic)
        raise refusals[-1]

    def sweep(self, tokens: Sequence[int] | None) -> tuple[CostTable, list[SweepPoint]]:
        """Time dense at the points, layer by layer, and the last layer's shortcut where it exists."""
        longest = n_tokens(self.longest)
        ladder = export_points if self.bench.exports else sweep_points
        wanted = tokens or ladder(longest, max(1, self.n_protected))
        points = sorted({longest, *(n for n in wanted if 1 <= n <= longest)})
        batches = {n: shorten(self.longest, n) for n in points}
        with ExitStack() as stack:
            short = {f"first/{n}": _call(run, batches[n]) for n, run in self._shortcut(stack, batches)}
            samples, marks = self._timed(batches, short)
        totals = {n: samples[str(n)] for n in points}
        parts = [split_layers(marks[n][-len(totals[n]) :], float(np.median(totals[n])) / NS_PER_MS) for n in points]
        table = CostTable(
            tokens=tuple(points),
            layers_ms=tuple(tuple(float(v) for v in row) for row in np.stack([layers for layers, _ in parts], axis=1)),
            around_ms=tuple(around for _, around in parts),
            attention_share=_attention_share(self.model, longest),
        )
        first: Points = tuple(
            (n, max(0.0, table.layer(-1, n) + float(np.median(samples[f"first/{n}"] - totals[n])) / NS_PER_MS))
            for n in points
            if f"first/{n}" in short
        )
        return CostTable(**{**table.__dict__, "first_token": first}), staircase(totals)

    def _timed(
        self, batches: Mapping[int, Mapping[str, Tensor]], short: Mapping[str, Callable[[], Any]]
    ) -> tuple[dict[str, IntArray], dict[int, list[list[Any]]]]:
        """Time dense on the batches and the arms of ``short`` in turn; return nanoseconds, and the layers' marks.

        Marks would break a compiled model's graph, and an exported one has no place for them: such runtimes are
        timed without, and an eager run of the same model says how their time is shared among the layers.
        """
        clock = LayerClock(self.model, self.family.layers(self.model), _marker(self.workload.device))
        dense = self.dense
        if self.bench.exports:
            dense = make_runner(self.model, self.workload, batches.values(), self.bench.say)
        forwards = {n: _call(dense, batch) for n, batch in batches.items()}
        if self.workload.runtime == "eager":
            with layer_arms(clock, forwards) as (arms, marks):
                return interleave({**arms, **short}, _SWEEP_ROUNDS, timer=self._timer), marks
        plain = {str(n): forward for n, forward in forwards.items()}
        samples = interleave({**plain, **short}, _SWEEP_ROUNDS, timer=self._timer)
        eager = make_runner(self.model, replace(self.workload, runtime="eager"))
        with layer_arms(clock, {n: _call(eager, batch) for n, batch in batches.items()}) as (arms, marks):
            interleave(arms, _SWEEP_ROUNDS, timer=self._timer)
        return samples, marks

    def apart(self, timing: PairedTiming, table: CostTable) -> float:
        """Return how far dense in the pairs is from dense in the sweep, as a share of the latter (>= 0)."""
        expected = float(np.median([table.dense(n_tokens(batch)) for batch in self.inputs]))
        return abs(timing.stats("dense").p50 / expected - 1)

    def _shortcut(
        self, stack: ExitStack, batches: Mapping[int, Mapping[str, Tensor]]
    ) -> list[tuple[int, Callable[[Any], Any]]]:
        """Return (tokens, runner) where the last layer computes the first token alone; none if that is not exact."""
        points, most = list(batches), 2 if self.bench.exports else _FIRST_TOKEN_POINTS
        chosen = [points[round(float(i))] for i in np.linspace(0, len(points) - 1, min(most, len(points)))]
        try:
            policy = PruningPolicy(last_layer="first_token")
            runner = self.bench.attached(stack, policy, [batches[n] for n in chosen])
        except AutopruneError:
            return []
        return [(n, runner) for n in chosen]

    def overheads(
        self,
        table: CostTable,
        scorers: Iterable[str | ScorerChoice] | None,
        reducers: Iterable[str | ReducerChoice] | None,
    ) -> tuple[CostTable, list[str]]:
        """Time the scorers and reducers; see ``measure_overheads``."""
        chosen, others = scorer_choices(scorers), reducer_choices(reducers)
        if not chosen and not others:
            return table, []
        seconds = _PASSES * (2 * len(chosen) + len(others) + 1) * table.dense(n_tokens(self.longest)) / 1e3
        return measure_overheads(self.bench, table, chosen, others, _OVERHEAD_ROUNDS, max(1.0, seconds))

    def end_to_end(self, tokenize: Callable[[int], Mapping[str, Tensor]]) -> float:
        """Return the median of tokenising and running one input, in milliseconds."""

        def run(index: int) -> Any:
            text = tokenize(index)
            # A text that was cut may have a token more or less now, and an exported graph takes one length.
            return self.dense(self.inputs[index] if self.bench.exports else text)

        arms = {str(i): _call(run, i) for i in range(len(self.inputs))}
        samples = interleave(arms, max(2, _PASSES // len(arms)))
        return float(np.median(np.concatenate(list(samples.values())))) / NS_PER_MS


def _strongest_policies(family: Family, length: int) -> list[PruningPolicy]:
    """Return the candidates for the floor, the strongest first; the first that fits the model is taken."""
    cheap = "truncate" if "truncate" in SCORERS else SCORERS.names()[0]
    layers: list[Any] = ["input", 0, 1] if family.supports_input_stage else [1]
    lasts: list[Any] = ["first_token", "full"]
    keep = max(_TINY, 0.5 / length)
    return [PruningPolicy((Stage(layer, cheap, keep=keep),), last_layer=last) for layer in layers for last in lasts]


def _protected(model: PreTrainedModel, batch: Mapping[str, Tensor], tokenizer: Any) -> int:
    """Return the tokens of the first row that never leave under the default protection."""
    ids = batch.get("input_ids")
    if ids is None:
        return 2  # no text: the first token, and one to look at
    return protected_count(model, PruningPolicy(), tokenizer, ids[0])


def _attention_share(model: PreTrainedModel, tokens: int) -> float:
    """Return the share of a layer's multiplications in the attention block, from the configuration's sizes."""
    hidden = getattr(model.config, "hidden_size", None)
    inner = getattr(model.config, "intermediate_size", None)
    if not hidden or not inner:
        return 0.4
    attention = 4 * hidden * hidden + 2 * tokens * hidden
    return float(attention / (attention + 2 * hidden * inner))


def _marker(device: str) -> Callable[[], Any]:
    """Return what marks a moment: the host's clock on the CPU, an event in the stream on CUDA."""
    if not device.startswith("cuda"):
        return time.perf_counter_ns
    import torch

    def mark() -> Any:
        new_event: Callable[..., Any] = torch.cuda.Event
        event = new_event(enable_timing=True)
        event.record()
        return event

    return mark


def _call(runner: Callable[[Any], Any], argument: Any) -> Callable[[], Any]:
    return lambda: runner(argument)

"""What each scorer and reducer costs by itself: one small policy each, against dense in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from autoprune._registry import REDUCERS, SCORERS
from autoprune.errors import AutopruneError
from autoprune.latency.cost_table import CostTable, Line
from autoprune.latency.meter import interleave
from autoprune.latency.runners import device_timer, make_runner, n_tokens, shorten
from autoprune.latency.stats import IntArray
from autoprune.policy import PruningPolicy, Stage
from autoprune.pruning.attach import attach
from autoprune.pruning.tables import TableSet
from autoprune.pruning.twin import twin
from autoprune.spaces.choices import ReducerChoice, ScorerChoice

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from autoprune.latency.workload import Workload

QUICK_SCORERS = ("random", "truncate", "lexicon", "cls_attention")
QUICK_REDUCERS = ("drop", "fuse")
_KEEP = 0.5
Candidates = Mapping[str, tuple[PruningPolicy, TableSet | None]]


@dataclass(frozen=True)
class Bench:
    """What overheads are measured on.

    Attributes:
        model: Prepared, without a policy.
        workload: Device and runtime are read.
        batch: The workload's longest input.
        tokenizer: Names the special tokens; may be None.
        n_protected: Tokens of it that never leave.
        middle: Layer before which in-layer stages are tried (>= 1).
        say: Told in words what takes seconds.
    """

    model: PreTrainedModel
    workload: Workload
    batch: Mapping[str, Tensor]
    tokenizer: Any
    n_protected: int
    middle: int
    say: Callable[[str], None] | None = None

    @property
    def exports(self) -> bool:
        """Whether each length of each policy must be exported before it runs."""
        return self.workload.runtime == "onnxruntime"

    def attached(
        self,
        stack: ExitStack,
        policy: PruningPolicy,
        inputs: Iterable[Mapping[str, Tensor]],
        tables: TableSet | None = None,
    ) -> Callable[[Mapping[str, Tensor]], Any]:
        """Return a runner of a twin with the policy attached until ``stack`` closes.

        Args:
            stack: Holds the policy on the twin.
            policy: The policy.
            inputs: What will be run.
            tables: Tables that it refers to.
        """
        pruned = twin(self.model)
        stack.enter_context(attach(pruned, policy, tokenizer=self.tokenizer, tables=tables))
        return make_runner(pruned, self.workload, inputs, self.say)


def scorer_choices(wanted: Iterable[str | ScorerChoice] | None) -> list[ScorerChoice]:
    """Return scorers with their parameters, none twice.

    Args:
        wanted: Names have the default parameters; None stands for ``QUICK_SCORERS``.
    """
    chosen = [name for name in QUICK_SCORERS if name in SCORERS] if wanted is None else wanted
    choices = [ScorerChoice(scorer=one) if isinstance(one, str) else one for one in chosen]
    return list({choice.label: choice for choice in choices}.values())


def reducer_choices(wanted: Iterable[str | ReducerChoice] | None) -> list[ReducerChoice]:
    """Return reducers with their parameters, none twice.

    Args:
        wanted: Names have the default parameters; None stands for ``QUICK_REDUCERS``.
    """
    chosen = [name for name in QUICK_REDUCERS if name in REDUCERS] if wanted is None else wanted
    choices = [ReducerChoice(reduce=one) if isinstance(one, str) else one for one in chosen]
    return list({choice.label: choice for choice in choices}.values())


def stand_in_tables(bench: Bench, scorer: str) -> tuple[dict[str, Any], TableSet | None]:
    """Return parameters and a random table for a scorer that needs a learned one: it costs what the true one does."""
    columns: tuple[str, ...] = getattr(SCORERS.get(scorer), "table_columns", ())
    if not columns:
        return {}, None
    import torch

    tables = TableSet()
    size = int(bench.model.config.vocab_size)
    generator = torch.Generator().manual_seed(0)
    return {"table": tables.add({name: torch.rand(size, generator=generator) for name in columns})}, tables


def measure_overheads(
    bench: Bench,
    table: CostTable,
    scorers: Iterable[ScorerChoice],
    reducers: Iterable[ReducerChoice],
    rounds: int,
    max_seconds: float,
) -> tuple[CostTable, list[str]]:
    """Return the table with the costs of the scorers and reducers given, and what could not be measured.

    A scorer is run where it can stand (at the input, before the middle layer) with keep 0.5 and
    ``drop``, on the full length and on a quarter (on the full length alone where each length must be
    exported). What the forward takes beyond the table's ideal is the scorer's, selection included. A
    reducer is charged what it takes beyond ``drop`` with the same scorer.

    Args:
        bench: What to measure on.
        table: Knows the layers.
        scorers: With their parameters.
        reducers: Likewise; ``drop`` costs nothing beyond itself.
        rounds: How often each is timed.
        max_seconds: Cap on all of it.
    """
    candidates: dict[str, tuple[PruningPolicy, TableSet | None]] = {}
    for scorer in scorers:
        params, tables = stand_in_tables(bench, scorer.scorer)
        for place, layer in (("input", "input"), ("layer", bench.middle)):
            stage = Stage(layer, scorer.scorer, keep=_KEEP, params={**params, **scorer.params})  # type: ignore[arg-type]
            candidates[f"{scorer.label}@{place}"] = (PruningPolicy((stage,)), tables)
    base = _reducer_base()
    for reducer in (ReducerChoice(reduce="drop"), *reducers):
        stage = Stage(bench.middle, base, keep=_KEEP, reduce=reducer.reduce, reduce_params=reducer.params)
        candidates[f"reduce:{reducer.label}"] = (PruningPolicy((stage,)), None)
    costs, notes = _time_candidates(bench, table, candidates, rounds, max_seconds)
    drop = dict(costs.get("reduce:drop", []))
    extra = {
        name.removeprefix("reduce:"): Line.through((n, ms - drop.get(n, 0.0)) for n, ms in points)
        for name, points in costs.items()
        if name.startswith("reduce:") and name != "reduce:drop"
    }
    lines = {name: Line.through(points) for name, points in costs.items() if not name.startswith("reduce:")}
    return table.with_costs(lines, {"drop": Line(0.0), **extra}), notes


def _reducer_base() -> str:
    """Return the scorer under which reducers are compared: ``random`` asks for nothing and spreads what it drops."""
    return "random" if "random" in SCORERS else SCORERS.names()[0]


def _time_candidates(
    bench: Bench, table: CostTable, candidates: Candidates, rounds: int, max_seconds: float
) -> tuple[dict[str, list[tuple[float, float]]], list[str]]:
    """Return (tokens, overhead ms) by candidate, and who could not be attached anywhere."""
    inputs = {n: shorten(bench.batch, n) for n in _lengths(bench)}
    dense = make_runner(bench.model, bench.workload, inputs.values(), bench.say)
    costs: dict[str, list[tuple[float, float]]] = {}
    refused: dict[str, str] = {}
    groups = _groups(bench, candidates)
    for group in groups:
        arms: dict[str, Callable[[], Any]] = {f"dense/{n}": _call(dense, batch) for n, batch in inputs.items()}
        with ExitStack() as stack:
            for name, (policy, tables) in group.items():
                try:
                    runner = bench.attached(stack, policy, inputs.values(), tables)
                except AutopruneError as error:
                    refused[name] = error.message
                    continue
                arms |= {f"{name}/{n}": _call(runner, batch) for n, batch in inputs.items()}
            timer = device_timer(bench.workload.device)
            samples = interleave(arms, rounds, timer=timer, max_seconds=max_seconds / len(groups))
        for name in group.keys() - refused.keys():
            costs[name] = [(n, _over(bench, table, group[name][0], samples, name, n)) for n in inputs]
    return costs, _refusals(candidates, refused)


def _lengths(bench: Bench) -> list[int]:
    full = n_tokens(bench.batch)
    return [full] if bench.exports else sorted({full, max(8, full // 4)} & set(range(1, full + 1)))


def _groups(bench: Bench, candidates: Candidates) -> list[Candidates]:
    """Return who shares rounds with whom: all; or each alone with dense, as sessions hold weights of their own."""
    return [{name: pair} for name, pair in candidates.items()] if bench.exports else [candidates]


def _over(
    bench: Bench, table: CostTable, policy: PruningPolicy, samples: Mapping[str, IntArray], name: str, n: int
) -> float:
    """Return what a candidate takes beyond the table's ideal, in milliseconds."""
    share = float(np.median(samples[f"{name}/{n}"] / samples[f"dense/{n}"]))
    return max(0.0, share * table.dense(n) - table.ideal(policy, n, min(n, bench.n_protected)))


def _refusals(candidates: Iterable[str], refused: Mapping[str, str]) -> list[str]:
    """Say who was refused at every place; a scorer that stands at one place is not missing."""
    fits = {name.split("@")[0] for name in candidates if name not in refused}
    return sorted(
        {
            f"{name.split('@')[0]}: its cost was not measured ({why})"
            for name, why in refused.items()
            if name.split("@")[0] not in fits
        }
    )


def _call(runner: Callable[[Any], Any], batch: Any) -> Callable[[], Any]:
    return lambda: runner(batch)

"""Bench: an export is timed and scored again against dense, and held against its promise."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune.deploy.load import load_dense, policy_tables
from autoprune.deploy.policy_file import PolicyFile, read_policy_file
from autoprune.engine.events import Observer
from autoprune.engine.session import stored_workload, versions
from autoprune.engine.timing import VERIFY_SETTINGS, Timer
from autoprune.errors import ModelError
from autoprune.evaluate.evaluator import Evaluator, Job
from autoprune.evaluate.quality import Quality, measure_quality
from autoprune.latency.consumption import energy_per_input, flops
from autoprune.latency.exclusive import timing_lock
from autoprune.latency.hardware import fingerprint
from autoprune.latency.memory import forward_peak_bytes
from autoprune.latency.runners import make_runner, n_tokens, prepare_model
from autoprune.latency.threads import pin_threads
from autoprune.latency.workload import Workload
from autoprune.policy import PruningPolicy
from autoprune.pruning.attach import attach
from autoprune.pruning.tables import TableSet
from autoprune.pruning.twin import twin
from autoprune.tasks.base import Task, TaskSpec, load_task

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from autoprune.latency.meter import MeterSettings
    from autoprune.latency.timing import PairedTiming

_CHUNK = 128
_TOLERANCE = 0.03  # two measurements, each known to a per cent or two


def bench_export(
    directory: Path, observer: Observer | None = None, settings: MeterSettings | None = None
) -> dict[str, Any]:
    """Time and score an export against dense, in pairs, on this machine.

    The promise holds when the ratio measured now is no higher than the promised interval (widened by
    3 %, the two measurements' own error), and the drop's interval reaches the promised drop.

    Args:
        directory: A folder that ``autoprune export`` wrote.
        observer: Told of progress.
        settings: How long and how well to time; None: as winners of a search are.

    Raises:
        ModelError: The folder is no export, or carries no task to score on.
    """
    observer = observer or Observer()
    file = read_policy_file(directory)
    if not file.task or not file.workload:
        raise ModelError(f"{directory} does not say on what it was measured.", "Export it again from its study.")
    tables = policy_tables(file.policy, directory) or TableSet()
    observer.phase("load the model")
    workload = stored_workload(file.workload)
    model, tokenizer = load_dense(directory)
    task = load_task(TaskSpec.from_dict(file.task))
    task.model, task.tokenizer = model, tokenizer  # what is held to its promise is what was exported
    task.model = prepare_model(task.model, workload)
    observer.phase("time in pairs with dense")
    timing = _timer(task, workload, file, tables).measure(file.policy, settings or VERIFY_SETTINGS)
    resources = _resources(task, workload, file.policy, tables, observer)
    quality = _score(task, file.policy, tables, observer)
    observer.done()
    return _document(directory, file, timing, quality, resources)


def _timer(task: Task, workload: Workload, file: PolicyFile, tables: TableSet) -> Timer:
    statistic = file.study.get("budget", {}).get("statistic", "p50")
    inputs = task.inputs(workload.lengths, workload.batch_size)
    return Timer(task.model, task.tokenizer, workload, inputs, tables, statistic)


def _resources(
    task: Task, workload: Workload, policy: PruningPolicy, tables: TableSet, observer: Observer
) -> dict[str, dict[str, Any]]:
    """Return memory, operations and energy of one input of the longest length, of dense and of the policy."""
    observer.phase("memory, operations, energy")
    batch = max(task.inputs(workload.lengths, workload.batch_size), key=n_tokens)
    pruned = twin(task.model)
    with attach(pruned, policy, tokenizer=task.tokenizer, tables=tables), timing_lock(progress=observer.message):
        return {
            "dense": _consumed(task.model, task.model, workload, batch, PruningPolicy(), None),
            "policy": _consumed(task.model, pruned, workload, batch, policy, tables),
        }


def _consumed(
    plain: PreTrainedModel,
    model: PreTrainedModel,
    workload: Workload,
    batch: Mapping[str, Tensor],
    policy: PruningPolicy,
    tables: TableSet | None,
) -> dict[str, Any]:
    with pin_threads(workload.threads):
        runner = make_runner(model, workload, [batch])
        energy = energy_per_input(runner, batch, workload.batch_size, workload.device)
    return {
        "memory_peak": forward_peak_bytes(plain, workload, n_tokens(batch), policy, tables),
        "flops": flops(model, batch),
        "energy_joules": energy.joules,
        "energy": energy.describe(),
    }


def _score(task: Task, policy: PruningPolicy, tables: TableSet, observer: Observer) -> Quality:
    import numpy as np

    n = len(task)
    observer.phase("score", 2 * n)
    evaluator = Evaluator(task, tables)
    sides = []
    for wanted in (PruningPolicy(), policy):
        parts = []
        for start in range(0, n, _CHUNK):
            parts.append(evaluator.logits(Job("bench", wanted, start, min(n, start + _CHUNK))))
            observer.advance(len(parts[-1]))
        sides.append(np.concatenate(parts))
    return measure_quality(sides[0], sides[1], task.labels, task.metric.score)


def _document(
    directory: Path, file: PolicyFile, timing: PairedTiming, quality: Quality, resources: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    low, high = timing.interval(timing.statistic)
    promised = file.figures
    measured = {
        "latency_ms": timing.stats("policy").to_dict(),
        "dense_latency_ms": timing.stats("dense").to_dict(),
        "ratio": timing.ratio(timing.statistic),
        "ratio_ci95": [low, high],
        "speedup": 1.0 / timing.ratio(timing.statistic),
        "noisy": timing.noisy,
        "score": quality.score,
        "drop": quality.drop,
        "drop_ci95": list(quality.drop_ci95),
        "kl": quality.kl,
        "agreement": quality.agreement,
        "n_examples": quality.n_examples,
    }
    here = fingerprint()
    return {
        "schema_version": 1,
        "directory": str(directory),
        "policy": file.policy.to_dict(),
        "promised": dict(promised),
        "measured": measured,
        "resources": resources,
        "holds": _holds(promised, measured),
        "same_hardware": here.digest() == file.hardware.get("digest"),
        "workload": file.workload,
        "hardware": {**here.to_dict(), "digest": here.digest()},
        "versions": versions(),
    }


def _holds(promised: dict[str, Any], measured: dict[str, Any]) -> bool | None:
    """Say whether the promise holds; None where the export carries no figures."""
    if promised.get("ratio_ci95") is None or promised.get("drop") is None:
        return None
    in_time = measured["ratio"] <= promised["ratio_ci95"][1] * (1 + _TOLERANCE)
    return bool(in_time and measured["drop_ci95"][0] <= promised["drop"] + 1e-9)

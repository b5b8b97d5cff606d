"""The fresh process of ``verify``: loads the task anew, times policies, writes what it measured."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from autoprune.engine.decision import decide
from autoprune.engine.timing import VERIFY_SETTINGS, Timer
from autoprune.latency.consumption import flops
from autoprune.latency.runners import prepare_model
from autoprune.latency.workload import Workload
from autoprune.policy import PruningPolicy
from autoprune.pruning.attach import attach
from autoprune.pruning.tables import TableSet
from autoprune.pruning.twin import twin
from autoprune.tasks.base import Task, TaskSpec, load_task

_TOKENISE_ROUNDS = 5


def run(place: Path) -> None:
    """Read ``request.json`` in ``place``; write ``answer.json`` and one ``timingN.npz`` per policy."""
    request = json.loads((place / "request.json").read_text(encoding="utf-8"))
    tables = TableSet.load(place / "tables.safetensors")
    workload = Workload.from_dict(request["workload"])
    task = load_task(TaskSpec.from_dict(request["task"]))
    task.model = prepare_model(task.model, workload)
    inputs = task.inputs(workload.lengths, workload.batch_size)
    timer = Timer(task.model, task.tokenizer, workload, inputs, tables, request["statistic"])
    answer: list[dict[str, Any]] = []
    for index, data in enumerate(request["policies"]):
        policy = PruningPolicy.from_dict(data)
        timing = timer.measure(policy, VERIFY_SETTINGS)
        (place / f"timing{index}.npz").write_bytes(timing.to_bytes())
        answer.append(
            {"flops_ratio": flops_ratio(task, inputs[0], policy, tables), "tokenise_ms": tokenise_ms(task, inputs)}
        )
        limit = request["limit_ratio"]
        interval = timing.interval(request["statistic"])
        if limit is not None and decide(interval, limit, timing.noisy, timing.drifted) == "met":
            break
    (place / "answer.json").write_text(json.dumps(answer), encoding="utf-8")


def flops_ratio(task: Task, inputs: Any, policy: PruningPolicy, tables: TableSet) -> float | None:
    """Return FLOPs of the policy / FLOPs of dense on one input."""
    dense = flops(task.model, inputs)
    with attach(twin(task.model), policy, tokenizer=task.tokenizer, tables=tables) as handle:
        own = flops(handle.model, inputs)
    return own / dense if dense and own is not None else None


def tokenise_ms(task: Task, inputs: list[Any]) -> float:
    """Return the median milliseconds that tokenising one timed input takes, text to ids."""
    samples = []
    for timed in inputs:
        texts = task.tokenizer.batch_decode(timed["input_ids"], skip_special_tokens=True)
        for _ in range(_TOKENISE_ROUNDS):
            begun = time.perf_counter_ns()
            task.tokenizer(texts, truncation=True, max_length=int(timed["input_ids"].shape[1]), return_tensors="pt")
            samples.append((time.perf_counter_ns() - begun) / 1e6)
    return sorted(samples)[len(samples) // 2]


if __name__ == "__main__":
    run(Path(sys.argv[1]))

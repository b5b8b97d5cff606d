"""The fresh process of ``verify``: loads the task anew, times policies, writes what it measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from autoprune.engine.checking import check_policies
from autoprune.engine.timing import Timer
from autoprune.latency.meter import MeterSettings
from autoprune.latency.runners import prepare_model
from autoprune.latency.workload import Workload
from autoprune.policy import PruningPolicy
from autoprune.pruning.tables import TableSet
from autoprune.tasks.base import TaskSpec, load_task


def run(place: Path) -> None:
    """Read ``request.json`` in ``place``; write ``answer.json`` and one ``timingN.npz`` per policy."""
    request = json.loads((place / "request.json").read_text(encoding="utf-8"))
    policies = [PruningPolicy.from_dict(data) for data in request["policies"]]
    settings = MeterSettings(**request["settings"])
    answer: list[dict[str, Any]] = []
    for index, check in enumerate(check_policies(_timer(place, request), policies, request["limit_ratio"], settings)):
        (place / f"timing{index}.npz").write_bytes(check.timing.to_bytes())
        answer.append({"flops_ratio": check.flops_ratio, "tokenise_ms": check.tokenise_ms})
    (place / "answer.json").write_text(json.dumps(answer), encoding="utf-8")


def _timer(place: Path, request: dict[str, Any]) -> Timer:
    tables = TableSet.load(place / "tables.safetensors")
    workload = Workload.from_dict(request["workload"])
    task = load_task(TaskSpec.from_dict(request["task"]))
    model = prepare_model(task.model, workload)
    inputs = task.inputs(workload.lengths, workload.batch_size)
    return Timer(model, task.tokenizer, workload, inputs, tables, request["statistic"])


if __name__ == "__main__":
    run(Path(sys.argv[1]))

"""Winners are measured again in a fresh process before anything is promised."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune.engine.checking import Verified
from autoprune.engine.timing import VERIFY_SETTINGS
from autoprune.errors import MeasurementError
from autoprune.latency.exclusive import LOCK_TIMEOUT_S
from autoprune.latency.timing import PairedTiming

if TYPE_CHECKING:
    from autoprune.latency.workload import Workload
    from autoprune.policy import PruningPolicy
    from autoprune.pruning.tables import TableSet
    from autoprune.tasks.base import TaskSpec

__all__ = ["Verified", "verify_policies"]

_TIMEOUT_S = 900.0  # beyond what the worker may wait for others that are timing


def verify_policies(
    spec: TaskSpec,
    workload: Workload,
    policies: Sequence[PruningPolicy],
    tables: TableSet,
    statistic: str,
    limit_ratio: float | None,
) -> list[Verified]:
    """Measure policies in one fresh process, in the order given.

    Args:
        spec: The task, loaded anew by the process.
        workload: What is timed.
        policies: The policies, best first.
        tables: Tables that they refer to.
        statistic: The budget's statistic.
        limit_ratio: With a limit, the process ends with the two policies among which one meets it.

    Raises:
        MeasurementError: The process failed.
    """
    with tempfile.TemporaryDirectory(prefix="autoprune-verify-") as folder:
        place = Path(folder)
        tables.save(place / "tables.safetensors")
        request = {
            "task": spec.to_dict(),
            "workload": workload.to_dict(),
            "policies": [policy.to_dict() for policy in policies],
            "statistic": statistic,
            "limit_ratio": limit_ratio,
            "settings": asdict(VERIFY_SETTINGS),
        }
        (place / "request.json").write_text(json.dumps(request), encoding="utf-8")
        _run_worker(place)
        answer = json.loads((place / "answer.json").read_text(encoding="utf-8"))
        return [_read(place, index, entry) for index, entry in enumerate(answer)]


def _run_worker(place: Path) -> None:
    command = [sys.executable, "-m", "autoprune.engine.verify_worker", str(place)]
    # A session of its own: Ctrl-C reaches this driver alone, which then decides what to finish.
    limit_s = LOCK_TIMEOUT_S + _TIMEOUT_S
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=limit_s,
            start_new_session=True,
            check=False,
            env=os.environ,
        )
    except subprocess.TimeoutExpired:
        raise MeasurementError(
            f"The verification in a fresh process had not ended after {limit_s / 60:.0f} minutes.",
            "Run the same command again when the machine is quieter; it resumes here.",
        ) from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise MeasurementError(
            f"The verification in a fresh process failed: {last}", "Run the same command again; it resumes here."
        )


def _read(place: Path, index: int, entry: dict[str, Any]) -> Verified:
    timing = PairedTiming.from_bytes((place / f"timing{index}.npz").read_bytes())
    return Verified(timing, entry["flops_ratio"], entry["tokenise_ms"])

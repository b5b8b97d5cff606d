"""Run a function in a fresh process: what it measures owes nothing to what this process did before."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoprune.errors import MeasurementError

_LAST_LINES = 5


@dataclass(frozen=True)
class FreshResult:
    """What came back.

    Attributes:
        value: The function's return value, as JSON types.
        peak_bytes: Most resident memory that the process held, or None where it cannot be told.
        seconds: From start to end, imports included.
    """

    value: Any
    peak_bytes: int | None
    seconds: float


def run_fresh(
    function: str, arguments: Mapping[str, Any], *, timeout_s: float = 900.0, threads: int | None = None
) -> FreshResult:
    """Call ``module:function`` with keyword arguments in a new Python process.

    Arguments and answer travel as JSON through files, so what the process prints does not matter.

    Args:
        function: Such as ``autoprune.latency.memory:forward_peak``.
        arguments: JSON types.
        timeout_s: After so long the process is stopped.
        threads: Sets ``OMP_NUM_THREADS``; None leaves the environment as it is.

    Raises:
        MeasurementError: The process failed or took too long; the message holds its last words.
    """
    environment = dict(os.environ) if threads is None else {**os.environ, "OMP_NUM_THREADS": str(threads)}
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="autoprune-fresh-") as folder:
        request, answer = Path(folder, "request.json"), Path(folder, "answer.json")
        request.write_text(json.dumps({"function": function, "arguments": dict(arguments)}), encoding="utf-8")
        command = [sys.executable, "-m", __name__, str(request), str(answer)]
        try:
            # A session of its own: Ctrl-C reaches the caller alone, which decides what to finish.
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=timeout_s, env=environment, check=False,
                start_new_session=True,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise MeasurementError(f"The fresh process took more than {timeout_s:.0f} seconds.") from None
        if done.returncode or not answer.is_file():
            last = " / ".join(done.stderr.strip().splitlines()[-_LAST_LINES:]) or "it said nothing"
            raise MeasurementError(f"The fresh process failed (exit {done.returncode}): {last}")
        found = json.loads(answer.read_text(encoding="utf-8"))
    return FreshResult(found["value"], found["peak_bytes"], time.monotonic() - began)


def high_water_bytes() -> int | None:
    """Return the most resident memory that this process held so far, or since ``reset_high_water``."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def reset_high_water() -> bool:
    """Let the high-water mark start anew from what is resident now; return whether the system can do that."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except OSError:
        return False
    return True


def _main(request: Path, answer: Path) -> None:
    wanted = json.loads(request.read_text(encoding="utf-8"))
    module, _, name = wanted["function"].partition(":")
    value = getattr(importlib.import_module(module), name)(**wanted["arguments"])
    answer.write_text(json.dumps({"value": value, "peak_bytes": high_water_bytes()}), encoding="utf-8")


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]))

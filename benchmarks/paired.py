"""Paired, interleaved timing of two callables, and tables; shared by the benchmarks of the pruning room."""

from __future__ import annotations

import json
import platform
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers


def paired_ratio(
    policy: Callable[[Any], Any], base: Callable[[Any], Any], inputs: Sequence[Any], rounds: int, seed: int = 0
) -> dict[str, float]:
    """Return the median of paired ratios policy / base, its 95 % interval by bootstrap, and both medians in ms."""
    order = random.Random(seed)
    for x in inputs[:2]:
        policy(x), base(x)
    times: dict[str, list[float]] = {"policy": [], "base": []}
    for round_ in range(rounds):
        x = inputs[round_ % len(inputs)]
        pair = [("policy", policy), ("base", base)]
        order.shuffle(pair)
        for name, call in pair:
            start = time.perf_counter_ns()
            call(x)
            times[name].append((time.perf_counter_ns() - start) / 1e6)
    a, b = np.array(times["policy"]), np.array(times["base"])
    ratio = a / b
    draws = np.random.default_rng(seed).integers(0, len(ratio), (2000, len(ratio)))
    low, high = np.quantile(np.median(ratio[draws], axis=1), [0.025, 0.975])
    return {
        "ratio": float(np.median(ratio)),
        "low": float(low),
        "high": float(high),
        "policy_ms": float(np.median(a)),
        "base_ms": float(np.median(b)),
    }


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    model = (
        next(
            (
                line.split(":")[1].strip()
                for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")
            ),
            "?",
        )
        if Path("/proc/cpuinfo").exists()
        else platform.processor()
    )
    return {
        "cpu": model,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "when": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def write(folder: Path, payload: dict[str, Any], markdown: str) -> None:
    """Write ``results.json`` and ``results.md`` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(payload, indent=1) + "\n")
    (folder / "results.md").write_text(markdown)
    print(markdown)

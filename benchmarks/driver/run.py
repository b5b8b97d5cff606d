"""What a search costs beside its evaluations, and whether one driver keeps 64 workers busy.

    python benchmarks/driver/run.py [overhead] [workers] [tune] [--trials N] [--sampler NAME] [--out FILE]

``overhead``: the real loop of a search (proposals, projection, rungs, statistics, storage) over a made-up task,
without storage and with the real SQLite store; what the made-up evaluations and timings take is taken off.
``workers``: the same loop with 64 simulated workers on a virtual clock, on which the driver's own time passes too.
``tune``: trivial trials under Ray Tune on autoprune's searcher, beside our own loop on Ray actors.
"""

import argparse
import cProfile
import json
import os
import platform
import pstats
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import optuna
from madeup import MadeUpLogits, Stopwatch, build

from autoprune.engine.events import Observer
from autoprune.evaluate.pools.replay import ReplayPool
from autoprune.store.repository import Store

WORKERS, SECONDS = 64, 4.0


class Laps(Observer):
    """Notes the driver's own clock each time a policy is done."""

    def __init__(self, watch: Stopwatch) -> None:
        self.watch, self.at = watch, [watch.now()]

    def advance(self, n: int = 1) -> None:
        self.at += [self.watch.now()] * n


def overhead(sampler: str, trials: int, store: Store | None) -> dict[str, Any]:
    """Return the driver's milliseconds per trial in all, over the last tenth, and per thousand trials."""
    watch = Stopwatch()
    logits = MadeUpLogits(watch)
    run = build(ReplayPool(logits), logits, watch, sampler, trials, store)
    run.observer = laps = Laps(watch)
    run.run()
    per_trial = [1000 * (b - a) for a, b in zip(laps.at, laps.at[1:])]
    last, step = per_trial[-max(1, len(per_trial) // 10) :], max(1, len(per_trial) // 10)
    return {
        "sampler": sampler,
        "trials": run.tried,
        "timed": run.timer.timed,  # type: ignore[attr-defined]
        "ms_per_trial": round(sum(per_trial) / len(per_trial), 2),
        "ms_per_trial_last_tenth": round(sum(last) / len(last), 2),
        "by_tenth": [round(sum(per_trial[i : i + step]) / step, 2) for i in range(0, step * 10, step)],
    }


def keep_busy(sampler: str, trials: int, drain: bool, store: Store | None) -> dict[str, Any]:
    """Return the share of the workers' time in which they worked, every job (one rung) taking four seconds.

    Args:
        sampler: Name of the sampler.
        trials: Policies.
        drain: Whether the pool is drained for timing, as a search on one machine does, or a timing node on a machine of
            its own times beside scoring.
        store: The open database; None: none.
    """
    watch = Stopwatch()
    logits = MadeUpLogits(watch)
    run = build(ReplayPool(logits), logits, watch, sampler, trials, store)
    run.pool = pool = ReplayPool(logits, WORKERS, lambda job: SECONDS, watch.now)
    run.apart = lambda: not drain
    run.run()
    return {
        "sampler": sampler,
        "workers": WORKERS,
        "drained_for_timing": drain,
        "trials": run.tried,
        "timed": run.timer.timed,  # type: ignore[attr-defined]
        "busy_share": round(pool.busy_share, 4),
        "virtual_s": round(pool.clock, 1),
        "driver_s": round(pool.driver_seconds, 1),
    }


def with_store(function: Any, *args: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder) / "driver.db") as store:
        return {"storage": "SQLite", **function(*args, store)}


def profiled(sampler: str, trials: int, storage: str, lines: int = 40) -> None:
    profile = cProfile.Profile()
    if storage == "none":
        profile.runcall(overhead, sampler, trials, None)
    else:
        profile.runcall(with_store, overhead, sampler, trials)
    pstats.Stats(profile).sort_stats("cumulative").print_stats(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["overhead", "workers", "tune"])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--worker-trials", type=int, default=3000)
    parser.add_argument("--tune-trials", type=int, default=100)
    parser.add_argument("--sampler", default="random")
    parser.add_argument("--storage", choices=["none", "sqlite", "both"], default="both")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.profile:
        profiled(args.sampler, args.trials, args.storage)
        return
    found: dict[str, Any] = {}
    if "overhead" in args.parts:
        if args.storage != "sqlite":
            part = {"storage": "none", **overhead(args.sampler, args.trials, None)}
            found["overhead"] = _said(part)
        if args.storage != "none":
            found["overhead_sqlite"] = _said(with_store(overhead, args.sampler, args.trials))
    if "workers" in args.parts:
        for name, drain in (("workers", True), ("workers_undrained", False)):
            if args.storage != "sqlite":
                part = {"storage": "none", **keep_busy(args.sampler, args.worker_trials, drain, None)}
                found[name] = _said(part)
            if args.storage != "none":
                found[f"{name}_sqlite"] = _said(with_store(keep_busy, args.sampler, args.worker_trials, drain))
    if "tune" in args.parts:
        from under_tune import compare

        found["tune"] = _said(compare(args.tune_trials))
    if args.out is not None:
        known = json.loads(args.out.read_text()) if args.out.exists() else {}
        args.out.write_text(json.dumps({**known, **found}, indent=1) + "\n")


def _said(part: dict[str, Any]) -> dict[str, Any]:
    part["machine"] = machine()
    print(json.dumps(part), flush=True)
    return part


def machine() -> dict[str, Any]:
    return {
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "optuna": optuna.__version__,
        "load": round(os.getloadavg()[0], 1),
        "clock_check_ms": round(1000 * median(_spin() for _ in range(5)), 2),
    }


def _spin() -> float:
    """Time a fixed piece of work: how disturbed the machine is shows in it."""
    begun = time.perf_counter()
    sum(i * i for i in range(200_000))
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()

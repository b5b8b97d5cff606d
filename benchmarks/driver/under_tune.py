"""Trivial trials under Ray Tune on autoprune's searcher, beside our own loop on Ray actors: what a trial costs."""

import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import ray
from madeup import MadeUpLogits, Stopwatch, build
from ray import tune

from autoprune.evaluate.evaluator import Job, Outcome
from autoprune.evaluate.pools import ray as ray_pool
from autoprune.evaluate.pools.replay import ReplayPool
from autoprune.integrations.ray_tune import Ledger, PolicySearcher, Scored
from autoprune.integrations.sitting import Sitting
from autoprune.policy import PruningPolicy
from autoprune.pruning.tables import TableSet
from autoprune.store.repository import Store

EXAMPLES, CLASSES, WORKERS = 100, 16, 2  # one rung


def trivial(digest: str) -> np.ndarray:
    return np.random.default_rng(int(digest[:8], 16)).normal(size=(EXAMPLES, CLASSES)).astype(np.float32)


class TrivialWorker:
    def __init__(self, *_: Any) -> None:
        pass

    def ready(self) -> int:
        return 0

    def run(self, job: Job) -> Outcome:
        return Outcome(job, trivial(job.key)[job.start : job.stop], 0.0)


class TrivialTrainable(tune.Trainable):
    def setup(self, config: dict[str, Any], ledger: Any = None) -> None:
        self.ledger = ledger
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        import json

        self.digest = PruningPolicy.from_dict(json.loads(new_config["policy"])).digest()
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        pass

    def load_checkpoint(self, checkpoint: Any) -> None:
        pass

    def step(self) -> dict[str, Any]:
        ray.get(self.ledger.add.remote(Scored(self.digest, 0, trivial(self.digest), 0.0)))
        return {"kl": 1.0, "examples": EXAMPLES, "done": True}


class TimedSearcher(PolicySearcher):
    def suggest(self, trial_id: str) -> Any:
        found = super().suggest(trial_id)
        if isinstance(found, dict):
            self.asked.append(time.perf_counter())
        return found


def compare(trials: int) -> dict[str, Any]:
    ray.init(address="local", num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        return {
            "trials": trials,
            "workers": WORKERS,
            "storage": "SQLite",
            "own_loop_ms_per_trial": _slope(_with_store(_own_loop, trials)),
            "ray_tune_ms_per_trial": _slope(_with_store(_under_tune, trials)),
        }
    finally:
        ray.shutdown()


def _slope(asked: list[float]) -> float:
    """Return the milliseconds between proposals, the first ones left out: processes start meanwhile."""
    used = asked[2 * WORKERS + 2 :]
    return round(1000 * (used[-1] - used[0]) / (len(used) - 1), 1)


def _with_store(function: Any, trials: int) -> list[float]:
    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder) / "tune.db") as store:
        found: list[float] = function(store, trials, Path(folder))
        return found


def _made(store: Store, trials: int) -> Any:
    logits = MadeUpLogits(Stopwatch(), EXAMPLES)
    return build(ReplayPool(logits), logits, Stopwatch(), "random", trials, store)


def _own_loop(store: Store, trials: int, _: Path) -> list[float]:
    run, asked = _made(store, trials), []
    propose = run.proposer.next

    def noted() -> Any:
        asked.append(time.perf_counter())
        return propose()

    run.proposer.next = noted
    ray_pool.Worker = TrivialWorker  # type: ignore[assignment,misc]
    source: Any = SimpleNamespace(model=SimpleNamespace(parameters=list))
    run.pool = ray_pool.RayPool(source, TableSet(), WORKERS)
    try:
        run.run()
    finally:
        run.pool.close()
    return asked


def _under_tune(store: Store, trials: int, folder: Path) -> list[float]:
    run = _made(store, 10 * trials)
    handle: Any = ray.remote(num_cpus=0)(Ledger)
    ledger = handle.remote()
    nothing: Any = None
    sitting = Sitting(run, nothing, TableSet(), nothing)
    searcher = TimedSearcher(sitting, ledger)
    searcher.asked = []
    tune.Tuner(
        tune.with_parameters(TrivialTrainable, ledger=ledger),
        tune_config=tune.TuneConfig(
            search_alg=searcher, num_samples=trials, reuse_actors=True, max_concurrent_trials=WORKERS
        ),
        run_config=tune.RunConfig(storage_path=str(folder / "tune"), verbose=0),
    ).fit()
    sitting.time_waiting()
    assert run.tried == trials, f"{run.tried} of {trials} trials were told"
    return searcher.asked

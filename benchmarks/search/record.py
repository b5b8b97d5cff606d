"""Records what every policy of the lattice does on the quickstart: logits per example, and what it takes.

    python benchmarks/search/record.py                # score what is not scored yet (hours; goes on where it stopped)
    python benchmarks/search/record.py --time         # probe, and time a sample of policies, on a quiet machine
    python benchmarks/search/record.py --pack         # write the committed files from what was recorded

Scores are taken by the evaluator that searches use, in the task's fixed order, dense included. Everything is kept by
the policy's digest in a working folder, so policies that are added to the lattice later invalidate nothing. What is
committed: ``recording.npz`` (logits, float16, by digest), ``recording.json`` (labels, probe with cost table, times) and
``lexicon.safetensors`` (the table that the policies refer to by its digest).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from lattice import SPACE, Lattice

from autoprune.evaluate.pools.replay import load_recording, save_recording
from autoprune.policy import PruningPolicy

HERE = Path(__file__).parent
WORK = HERE.parents[1] / "build" / "search"
PER_CHUNK = 60
BUDGET = "50%"


def open_task() -> Any:
    import torch

    from autoprune.tasks.base import TaskSpec, load_task

    torch.set_num_threads(1)
    return load_task(TaskSpec())


def open_lexicon(task: Any, work: Path) -> tuple[Any, dict[str, str]]:
    """Return the tables and the lexicon's digest: the committed table, else learned as a search learns it."""
    from autoprune.engine.events import Observer
    from autoprune.engine.tables import open_tables
    from autoprune.pruning.tables import TableSet
    from autoprune.store.repository import Store

    path = next((f for f in (HERE / "lexicon.safetensors", work / "lexicon.safetensors") if f.exists()), None)
    if path is not None:
        tables = TableSet.from_bytes(path.read_bytes())
        return tables, {"lexicon": next(iter(tables))}
    space = SimpleNamespace(scorers=lambda: {"lexicon"})
    session: Any = SimpleNamespace(task=task, plain_model=task.model, space=space)
    with Store.open(str(work / "lexicon.db")) as store:
        tables, digests = open_tables(session, store, Observer())
    (work / "lexicon.safetensors").write_bytes(tables.to_bytes())
    return tables, digests


def wanted(lattice: Lattice) -> list[PruningPolicy]:
    return [PruningPolicy(), *lattice.policies]


def recorded(work: Path) -> set[str]:
    """Return the digests of all policies that were scored."""
    found: set[str] = set()
    for path in sorted(work.glob("chunk-*.npz")):
        with np.load(path, allow_pickle=False) as archive:
            found |= set(archive.files)
    return found


def score(work: Path, job: int, jobs: int, chunks: int | None) -> None:
    """Score this process' share of what is missing, a chunk at a time."""
    from autoprune.evaluate.evaluator import Evaluator
    from autoprune.evaluate.sharing import share_out

    task = open_task()
    tables, digests = open_lexicon(task, work)
    lattice = Lattice.read(digests)
    evaluator, known = Evaluator(task, tables), recorded(work)
    parts = share_out([p for p in wanted(lattice) if p.digest() not in known], jobs, lattice.n_layers)
    missing = parts[job] if job < len(parts) else []
    for number in range(0, len(missing), PER_CHUNK):
        if chunks is not None and number >= chunks * PER_CHUNK:
            return
        begun = time.perf_counter()
        logits = logits_of(evaluator, missing[number : number + PER_CHUNK], lattice.examples)
        save_recording(work / f"chunk-{next(iter(logits))[:16]}.npz", logits)
        left, seconds = len(missing) - number - len(logits), time.perf_counter() - begun
        print(f"process {job}: {len(logits)} policies in {seconds:.0f} s, {left} left", flush=True)


def logits_of(evaluator: Any, policies: list[PruningPolicy], examples: int) -> dict[str, np.ndarray]:
    """Return logits on the first examples by digest; layers that policies have in common run once."""
    from autoprune.evaluate.evaluator import Job
    from autoprune.evaluate.group import run_group

    outcomes = run_group(evaluator, [Job(policy.digest(), policy, 0, examples) for policy in policies])
    for outcome in outcomes:
        if outcome.logits is None:
            sys.exit(f"{outcome.job.policy.describe()} failed: {outcome.error}")
    return {outcome.job.key: outcome.logits for outcome in outcomes if outcome.logits is not None}


def score_all(work: Path, jobs: int, chunks: int | None) -> None:
    if not any(folder.joinpath("lexicon.safetensors").exists() for folder in (HERE, work)):
        open_lexicon(open_task(), work)
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=score, args=(work, job, jobs, chunks)) for job in range(jobs)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        sys.exit(1)


def measure(work: Path, sample: int) -> None:
    """Probe the machine and time an even sample of the lattice, in pairs with dense; run it on a quiet machine."""
    from autoprune.config import SearchConfig
    from autoprune.engine.events import Observer
    from autoprune.engine.probing import probe_session
    from autoprune.engine.session import open_session, versions
    from autoprune.store.repository import Store

    config = SearchConfig.of(space=str(SPACE), budget=BUDGET, threads=1, workers=1)
    observer = Observer()
    observer.message = lambda text: print(text, flush=True)  # type: ignore[method-assign]
    session = open_session(config, observer)
    tables, digests = open_lexicon(session.task, work)
    space = session.space
    with Store.open(str(work / "probe.db")) as store:
        probe = probe_session(session, store, observer, space.scorer_choices(), space.reducer_choices(), fresh=True)
    facts = {
        "probe": probe.to_dict(),
        "lengths": list(session.workload.lengths),
        "n_protected": session.n_protected,
        "workload": session.workload.to_dict(),
        "hardware": session.hardware.to_dict(),
        "versions": versions(),
    }
    (work / "probe.json").write_text(json.dumps(facts, indent=1))
    timer = session.timer(tables)
    lattice, times = Lattice.read(digests), {}
    for policy in lattice.policies[:: max(1, len(lattice.policies) // sample)][:sample]:
        timing = timer.measure(policy)
        low, high = timing.interval("p50")
        times[policy.digest()] = {"ratio": timing.ratio("p50"), "low": low, "high": high, "noisy": timing.noisy}
        (work / "times.json").write_text(json.dumps(times, indent=1))
        print(f"{policy.describe()}: {timing.ratio('p50'):.3f}", flush=True)


def predictions(facts: dict[str, Any], policies: list[PruningPolicy]) -> list[float]:
    """Return predicted latency / dense of policies, by the recorded cost table alone."""
    from autoprune.latency.cost_table import CostTable

    table = CostTable.from_dict(facts["probe"]["cost_table"])
    dense = table.predict_statistic(PruningPolicy(), facts["lengths"], facts["n_protected"])
    return [table.predict_statistic(p, facts["lengths"], facts["n_protected"]) / dense for p in policies]


def pack(work: Path) -> None:
    """Write the committed files; every policy of the lattice must be recorded."""
    task = open_task()
    tables, digests = open_lexicon(task, work)
    lattice = Lattice.read(digests)
    logits: dict[str, np.ndarray] = {}
    for path in sorted(work.glob("chunk-*.npz")):
        logits.update(load_recording(path))
    missing = [policy for policy in wanted(lattice) if policy.digest() not in logits]
    if missing:
        sys.exit(f"{len(missing)} policies are not recorded, such as {missing[0].describe()}.")
    facts = json.loads((work / "probe.json").read_text())
    times = json.loads((work / "times.json").read_text())
    chosen = {policy.digest(): logits[policy.digest()] for policy in wanted(lattice)}
    save_recording(HERE / "recording.npz", chosen, "float16")
    (HERE / "lexicon.safetensors").write_bytes(tables.to_bytes())
    ratios = dict(zip(lattice.index, predictions(facts, lattice.policies), strict=True))
    payload = {
        "task": task.name,
        "model_digest": task.model_digest,
        "data": task.fingerprint,
        "examples": lattice.examples,
        "held_out": len(task),
        "labels": task.labels[: lattice.examples].tolist(),
        "tokens": task.lengths[: lattice.examples].tolist(),
        "lexicon": digests["lexicon"],
        **facts,
        "predicted": {digest: round(ratio, 6) for digest, ratio in ratios.items()},
        "measured": times,
        "first_token_is_exact": largest_difference(chosen, lattice),
    }
    (HERE / "recording.json").write_text(json.dumps(payload, indent=1) + "\n")
    error = [ratios[digest] / found["ratio"] - 1 for digest, found in times.items()]
    print(f"{len(chosen)} policies, {(HERE / 'recording.npz').stat().st_size / 2**20:.1f} MiB")
    print(f"predicted / measured - 1: median {np.median(error):+.1%}, median absolute {np.median(np.abs(error)):.1%}")


def largest_difference(logits: dict[str, np.ndarray], lattice: Lattice) -> float:
    """Return how far the last layer's shortcut alone moves any logit of dense."""
    shortcut = next(policy for policy in lattice.policies if not policy.stages)
    return float(np.abs(logits[PruningPolicy().digest()] - logits[shortcut.digest()]).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, default=WORK, help="where chunks are kept")
    parser.add_argument("--jobs", type=int, default=2, help="scoring processes, one thread each")
    parser.add_argument("--chunks", type=int, help=f"stop after so many chunks of {PER_CHUNK} policies per process")
    parser.add_argument("--time", action="store_true", help="probe and time a sample")
    parser.add_argument("--sample", type=int, default=40, help="policies to time")
    parser.add_argument("--pack", action="store_true", help="write the committed files")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.time:
        measure(options.work, options.sample)
    elif options.pack:
        pack(options.work)
    else:
        score_all(options.work, options.jobs, options.chunks)


if __name__ == "__main__":
    main()

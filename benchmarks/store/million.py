"""How long do questions take with a million evaluations in the database?

    python benchmarks/store/million.py [--db FILE] [--rows N] [--one] [--reuse] [--out results.json]

Two databases in one: a thousand studies of a thousand trials (the likely case), or with ``--one`` a single
study of a million (the worst case). Every row is written as the store writes it, but in bulk; the flags of
``ap_point.candidate`` are computed by brute force here and so check the store's own upkeep of them. As in a
search, no study has a policy twice, and trial 0 is dense with the probe's measurement.

Besides the store's questions it times the whole of ``autoprune front`` but for the printing: open the database,
read the front, read every figure of its rows; in processes that have just begun and, again, in one that goes on.
"""

import argparse
import json
import platform
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from sqlalchemy import event

from autoprune.engine import queries
from autoprune.policy import PruningPolicy, Stage
from autoprune.store import Store, upkeep
from autoprune.testing.studies import study_record

CHUNK = 50_000
DENSE_MS = 48.0
PROCESSES = 5
NOW = "2026-11-21 00:00:00.000000"
FRESH = """
import json, sys, time
from autoprune.engine import queries
took = []
for _ in range(2):
    begun = time.perf_counter()
    queries.front(*json.loads(sys.argv[1]))
    took.append((time.perf_counter() - begun) * 1000)
print(json.dumps(took))
"""


def candidates(latency: np.ndarray, upper: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Mark points that no other one beats in latency, upper end and score."""
    order = np.lexsort((-score, upper, latency))
    kept: list[int] = []
    for i in order:
        known = np.asarray(kept, dtype=int)
        beaten = (latency[known] <= latency[i]) & (upper[known] <= upper[i]) & (score[known] >= score[i])
        beaten &= (latency[known] < latency[i]) | (score[known] > score[i])
        if not beaten.any():
            kept.append(int(i))
    flags = np.zeros(len(latency), dtype=bool)
    flags[kept] = True
    return flags


def build(path: Path, studies: int, trials: int) -> None:
    """Write the database."""
    with Store.open(path) as store, store.transaction():
        for index in range(studies):
            store.create_study(study_record(f"study-{index:04d}"))
    rng = np.random.default_rng(0)
    raw = sqlite3.connect(path)
    raw.execute("PRAGMA synchronous=OFF")
    policies = [PruningPolicy() if i == 0 else policy(i / trials) for i in range(trials)]
    digests = [one.digest() for one in policies]
    with raw:
        raw.executemany(
            f"INSERT INTO ap_policy (digest, described, policy, created_at) VALUES (?, ?, ?, '{NOW}')",
            ((digest, one.describe(), json.dumps(one.to_dict()))
             for digest, one in zip(digests, policies, strict=True)),
        )  # fmt: skip
    for index in range(studies):
        with raw:
            write_study(raw, index, trials, digests, rng)
    raw.execute("ANALYZE")
    raw.close()


def policy(keep: float) -> PruningPolicy:
    return PruningPolicy(stages=(Stage("input", "lexicon", keep=keep),))


def stats(latency_ms: float) -> str:
    """Both sides of a measurement as the store keeps them."""
    sides = {
        side: {"p50": ms, "p95": ms * 1.05, "p99": ms * 1.1, "mean": ms * 1.01, "iqr": ms * 0.02, "n": 160}
        for side, ms in (("dense", DENSE_MS), ("policy", latency_ms))
    }
    return json.dumps(sides)


def write_study(raw: sqlite3.Connection, index: int, trials: int, digests: list[str], rng: np.random.Generator) -> None:
    latency = rng.uniform(5, 50, trials)
    latency[0] = DENSE_MS
    upper = latency * (1 + rng.exponential(0.02, trials))
    score = 0.95 - 0.3 * np.exp(-latency / 12) - rng.exponential(0.03, trials)
    flags = candidates(latency, upper, score)
    first = index * trials + 1
    for begin in range(0, trials, CHUNK):
        part = range(begin, min(begin + CHUNK, trials))
        raw.executemany(
            "INSERT INTO ap_evaluation (id, study_id, trial, policy_digest, n_examples, complete, score, score_drop,"
            f" kl, created_at) VALUES (?, ?, ?, ?, 1000, 1, ?, ?, ?, '{NOW}')",
            ((first + i, index + 1, i, digests[i], score[i], 0.95 - score[i], 0.1) for i in part),
        )
        raw.executemany(
            "INSERT INTO ap_measurement (id, study_id, trial, policy_digest, kind, statistic, latency_ms, ratio,"
            f" ratio_lo, ratio_hi, stats, noisy, extra, created_at) VALUES (?, ?, ?, ?, ?, 'p50', ?, ?, ?, ?, ?, 0,"
            f" '{{}}', '{NOW}')",
            ((first + i, index + 1, i, digests[i], "search" if i else "probe", latency[i], latency[i] / DENSE_MS,
              latency[i] / DENSE_MS, upper[i] / DENSE_MS, stats(latency[i])) for i in part),
        )  # fmt: skip
        raw.executemany(
            "INSERT INTO ap_point VALUES (?, ?, 'p50', ?, ?, ?, ?, ?, ?, ?)",
            ((index + 1, i, digests[i], first + i, first + i, latency[i], upper[i], score[i], int(flags[i]))
             for i in part),
        )  # fmt: skip


def timed(question: Callable[[], Any], times: int = 15) -> dict[str, float]:
    """Milliseconds of a question: the first time and the median."""
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        question()
        taken.append((time.perf_counter() - begun) * 1000)
    return {"first_ms": round(taken[0], 2), "median_ms": round(median(taken), 2), "worst_ms": round(max(taken), 2)}


def whole(db: Path, study: str, budget: str) -> dict[str, Any]:
    """Milliseconds of ``queries.front``: the first and the second time in a new process, and in this one."""
    asked = json.dumps([str(db), study, budget])
    first, second = zip(
        *(
            json.loads(subprocess.run([sys.executable, "-c", FRESH, asked], capture_output=True, check=True).stdout)
            for _ in range(PROCESSES)
        ),
        strict=True,
    )
    found = timed(lambda: queries.front(str(db), study, budget), 9)
    return {
        "new_process_first_ms": round(median(first), 2), "new_process_first_worst_ms": round(max(first), 2),
        "new_process_second_ms": round(median(second), 2), "median_ms": found["median_ms"],
        "rows": len(queries.front(str(db), study, budget)["front"]),
    }  # fmt: skip


def plans(store: Store, question: Callable[[], Any]) -> Iterator[str]:
    """SQLite's query plan of every SELECT that a question runs."""
    asked: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT"):
            asked.append((statement, parameters))

    event.listen(store.engine, "before_cursor_execute", note)
    question()
    event.remove(store.engine, "before_cursor_execute", note)
    with store.engine.connect() as connection:
        for statement, parameters in asked:
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters):
                yield str(row[3])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--db", type=Path, default=Path("/tmp/autoprune-million.db"))
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--one", action="store_true", help="one study instead of a thousand")
    parser.add_argument("--reuse", action="store_true", help="ask a database that an earlier run built")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    studies = 1 if options.one else max(1, options.rows // 1000)
    trials = options.rows // studies
    begun = time.perf_counter()
    if not (options.reuse and options.db.exists()):
        options.db.unlink(missing_ok=True)
        build(options.db, studies, trials)
    result: dict[str, Any] = {
        "rows": studies * trials, "studies": studies, "trials": trials,
        "build_s": None if options.reuse else round(time.perf_counter() - begun, 1), "bytes": options.db.stat().st_size,
        "sqlite": sqlite3.sqlite_version, "python": platform.python_version(), "questions": {},
    }  # fmt: skip
    name = f"study-{studies // 2:04d}"
    digest = policy((trials // 2) / trials).digest()
    with Store.open(options.db) as store:
        questions: dict[str, Callable[[], Any]] = {
            "front of a study, its own budget": lambda: store.front(name, 20.0),
            "front of a study, another budget": lambda: store.front(name, 11.5),
            "front of a study, no budget": lambda: store.front(name),
            "best over all studies of a model and task": lambda: store.best(
                20.0, model="all-MiniLM-L6-v2", task="minilm-docstrings"
            ),
            "history of a policy": lambda: store.history(digest),
            "list of studies": lambda: store.list_studies(),
        }
        for text, question in questions.items():
            figures = timed(question, 15 if "list" not in text and "history" not in text else 5)
            answers = len(question())
            plan = list(dict.fromkeys(plans(store, question)))
            result["questions"][text] = figures | {"answers": answers, "plan": plan}
            print(f"{figures['median_ms']:9.2f} ms median, {figures['first_ms']:9.2f} first, {answers:5} rows  {text}")
            for line in plan:
                print(f"{'':14}{line}")
        wrong = [finding.detail for finding in upkeep.check(store) if finding.what == "fronts" and not finding.ok]
        result["front_index_right"] = not wrong
    result["autoprune front"] = {}
    for budget in ("20ms", "11.5ms", "1000ms"):
        answer = result["autoprune front"][f"--budget {budget}"] = whole(options.db, name, budget)
        print(
            f"{answer['new_process_first_ms']:9.2f} ms first, {answer['new_process_second_ms']:9.2f} second,"
            f" {answer['median_ms']:9.2f} later, {answer['rows']:5} rows  autoprune front --budget {budget}"
        )
    print(f"{result['rows']:,} evaluations, {result['bytes'] / 1e6:.0f} MB")
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

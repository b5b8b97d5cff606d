"""Which searcher draws the front with the least work? Replay of recorded policies, and an analytic simulator.

    python benchmarks/search/run.py                          # the recorded lattice, all searchers, 20 seeds
    python benchmarks/search/run.py --world 6 12 24          # the simulator with so many layers
    python benchmarks/search/run.py --only autoprune --seeds 4 --limit 60
    python benchmarks/search/run.py --report                 # what of it was run

Prints, as the median over seeds: the hypervolume in (latency / dense, score) against (1.0, chance), in % of the true
front's, the best score under the budget and its regret, in points of score, after so many full-evaluation equivalents.
One of these is examples x predicted cost, everything included, over all examples x the cost of a policy on the budget.
Results are kept per searcher and seed in a working folder; what is there, to this limit or a larger one, is not run
again. README.md beside this file says more.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import quick_gp
from account import Account
from figures import equivalents, scores, summary, table
from searchers import plain, product, quiet
from simulator import Simulated
from world import Recorded, Truth, World

HERE = Path(__file__).parent
WORK = HERE.parents[1] / "build" / "search" / "runs"
OPTUNA = ("random", "qmc", "nsga2", "tpe", "gp", "evolution")
UNCONSTRAINED = ("nsga2", "tpe", "gp")  # those whose use of the constraint costs or gains the front most
LATTICE = "lattice"


@dataclass(frozen=True)
class Searcher:
    """A searcher and how it is run: see ``searchers.plain``, and ``quick_gp`` for ``quick``."""

    name: str
    sampler: str
    free: bool
    sort: bool = False
    constrain: bool = True
    quick: bool = False

    def search(self, world: World, seed: int, budget: float, limit: float) -> Account:
        if self.quick:
            quick_gp.install()  # for good: every search has a process of its own
        if self.free:
            return plain(world, self.sampler, seed, budget, limit, sort=self.sort, constrain=self.constrain)
        return product(world, self.sampler, seed, budget, limit)


def searchers() -> list[Searcher]:
    """Return all searchers, the product's own first."""
    return [
        Searcher("autoprune", "autoprune", free=False),
        *(Searcher(f"{name}, free", name, free=True) for name in OPTUNA),
        Searcher("gp, free, quick", "gp", free=True, quick=True),
        *(Searcher(f"{name}, free, no constraint", name, free=True, constrain=False) for name in UNCONSTRAINED),
        *(Searcher(f"{name}, projected", name, free=False) for name in OPTUNA),
    ]


@cache
def world_of(kind: str, seed: int, budget: float) -> World:
    """Return the lattice, or the simulated task of a seed with so many layers."""
    return Recorded.read() if kind == LATTICE else Simulated(int(kind), seed, budget)


@dataclass(frozen=True)
class Run:
    """One search to be done."""

    kind: str
    searcher: Searcher
    seed: int
    budget: float
    limit: float
    work: Path

    @property
    def path(self) -> Path:
        """Where its result is kept."""
        name = self.searcher.name.replace(", ", "-").replace(" ", "-")
        return self.work / self.kind / f"{name}-{self.seed}-{self.budget:g}.json"

    @property
    def done(self) -> bool:
        """Whether it was run so far, or further."""
        return self.path.exists() and float(json.loads(self.path.read_text())["limit"]) >= self.limit

    def __call__(self) -> str:
        quiet()
        world = world_of(self.kind, self.seed if self.kind != LATTICE else 0, self.budget)
        begun = time.perf_counter()
        account = self.searcher.search(world, self.seed, self.budget, self.limit)
        seconds = time.perf_counter() - begun
        self.path.parent.mkdir(parents=True, exist_ok=True)
        truth = {name: (v if name == "chance" else v.tolist()) for name, v in asdict(world.truth).items()}
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps({**account.to_dict(), "limit": self.limit, "truth": truth, "seconds": seconds}))
        partial.replace(self.path)
        return f"{self.kind} {self.searcher.name} seed {self.seed}: {seconds:.0f} s"

    def read(self) -> tuple[dict[str, Any], Truth]:
        """Return the account and the truth."""
        import numpy as np

        data = json.loads(self.path.read_text())
        truth = data.pop("truth")
        return data, Truth(np.asarray(truth["ratio"]), np.asarray(truth["score"]), truth["chance"])


def call(run: Run) -> str:
    return run()


def chosen(words: list[str] | None) -> list[Searcher]:
    """Return the searchers that one of the words names, or else those whose name begins with it; without words, all."""
    names = {searcher.name for searcher in searchers()}
    return [
        searcher
        for searcher in searchers()
        if not words or any(searcher.name == w or (w not in names and searcher.name.startswith(w)) for w in words)
    ]


def runs_of(options: argparse.Namespace) -> Iterator[Run]:
    for kind in options.world:
        for searcher in chosen(options.only):
            for seed in range(options.seeds):
                yield Run(kind, searcher, seed, options.budget, options.limit, options.work)


def run_all(runs: list[Run], jobs: int) -> None:
    """Do what is not done; the slowest samplers first, so that processes end together."""
    todo = sorted((run for run in runs if not run.done), key=lambda run: run.searcher.sampler != "gp")
    if not todo:
        return
    with multiprocessing.get_context("spawn").Pool(jobs, maxtasksperchild=1) as pool:
        for done, words in enumerate(pool.imap_unordered(call, todo), 1):
            print(f"{done} of {len(todo)}: {words}", flush=True)


def judge(found: dict[str, Any], runs: dict[str, list[tuple[dict[str, Any], Truth]]]) -> dict[str, Any]:
    """Compare autoprune's searcher with the goals; the best plain one is the best of all its variants."""
    rivals = {name: figures["volume"].get("100", 0.0) for name, figures in found.items() if ", free" in name}
    if not rivals or "autoprune" not in found:
        return {}
    best = max(rivals, key=lambda name: rivals[name])
    by_count = max(found[name]["volume_after_100_policies"] for name in rivals)
    reached = {level: equivalents(runs["autoprune"], level) for level in (rivals[best], by_count)}
    return {
        "best_plain": best,
        "its_volume_at_100": rivals[best],
        "autoprune_reaches_it_at": reached[rivals[best]],
        "best_plain_volume_after_100_policies": by_count,
        "autoprune_reaches_that_at": reached[by_count],
        "regret_at_25": found["autoprune"]["regret"].get("25"),
        "regret_at_60": found["autoprune"]["regret"].get("60"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--world", nargs="+", default=[LATTICE], help="lattice, or numbers of layers")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--budget", type=float, default=0.5, help="share of dense latency")
    parser.add_argument("--limit", type=float, default=200.0, help="full-evaluation equivalents per search")
    parser.add_argument("--only", nargs="*", help="searchers of this name, or whose name begins so")
    parser.add_argument("--jobs", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--work", type=Path, default=WORK, help="where results of searches are kept")
    parser.add_argument("--out", type=Path, default=HERE / "result.json")
    parser.add_argument("--report", action="store_true", help="search nothing: tell what is in the folder already")
    options = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    runs = list(runs_of(options))
    if options.report:
        runs = [run for run in runs if run.path.exists()]
    else:
        run_all(runs, options.jobs)
    worlds = {}
    for kind in options.world:
        names = list(dict.fromkeys(run.searcher.name for run in runs if run.kind == kind))
        results = {n: [r.read() for r in runs if r.kind == kind and r.searcher.name == n] for n in names}
        found = {name: summary(results[name], options.budget, options.limit) for name in names}
        goals = judge(found, results)
        worlds[kind] = {"searchers": found, "goals": goals}
        print(f"\n{kind}: median of {options.seeds} seeds, budget {options.budget:.0%} of dense\n")
        few = [(name, n, count) for name, row in found.items() for n, count in row["seeds"].items()]
        print("".join(f"Fewer seeds: {name} @{n} has {c}.\n" for name, n, c in few if c < options.seeds))
        print("\n".join(table(found)))
        print("\nThe best score under the budget:\n\n" + "\n".join(scores(found)))
        print("\n" + "\n".join(f"{name.replace('_', ' ')}: {value}" for name, value in goals.items()))
    if not options.only:
        facts = {"budget": options.budget, "seeds": options.seeds, "python": platform.python_version()}
        old = json.loads(options.out.read_text())["worlds"] if options.out.exists() else {}
        options.out.write_text(json.dumps({**facts, "worlds": {**old, **worlds}}, indent=1) + "\n")


if __name__ == "__main__":
    main()

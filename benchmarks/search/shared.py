"""What scoring in groups gains: the quickstart's sensitivity profile, plain against shared, interleaved, one thread.

    python benchmarks/search/shared.py --rounds 3

The policies are those that a search of the space profiles, on the examples that it takes for that. Seconds are those of
the processor, so that neighbours hardly count.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paired import machine
from record import HERE, open_lexicon, open_task

from autoprune.engine.profiling import EXAMPLES, profile_policies
from autoprune.evaluate.evaluator import BATCH_SIZE, Evaluator, Job
from autoprune.evaluate.group import run_group
from autoprune.evaluate.sharing import share_out
from autoprune.policy import PruningPolicy
from autoprune.pruning.families import family_of
from autoprune.spaces.schema import load_space_file
from autoprune.spaces.space import Space


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--space", default="quick")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of runs")
    options = parser.parse_args()
    task = open_task()
    tables, digests = open_lexicon(task, HERE)
    n_layers = family_of(task.model).n_layers(task.model)
    plan = profile_policies(Space(load_space_file(options.space), n_layers), digests)
    policies = {policy.digest(): policy for probes in plan.values() for _, policy in probes}
    (group,) = share_out(list(policies.values()), 1, n_layers)
    jobs = [Job(policy.digest(), policy, 0, EXAMPLES) for policy in group]
    evaluator, order = Evaluator(task, tables), random.Random(0)
    evaluator.run(Job("warm-up", PruningPolicy(), 0, BATCH_SIZE))
    ways = {"shared": lambda: run_group(evaluator, jobs), "plain": lambda: [evaluator.run(job) for job in jobs]}
    print(f"{len(jobs)} policies, {EXAMPLES} examples; {machine()}", flush=True)
    ratios = []
    for _ in range(options.rounds):
        seconds, found = {}, {}
        for name in order.sample(sorted(ways), len(ways)):
            begun = time.process_time()
            found[name] = [outcome.logits for outcome in ways[name]()]
            seconds[name] = time.process_time() - begun
        ratios.append(seconds["plain"] / seconds["shared"])
        same = all(map(np.array_equal, found["shared"], found["plain"]))
        words = f"plain {seconds['plain']:.2f} s, shared {seconds['shared']:.2f} s"
        print(f"{words}: {ratios[-1]:.3f} times faster; logits the same to the bit: {same}", flush=True)
    print(f"median {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()

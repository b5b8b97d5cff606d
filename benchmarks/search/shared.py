"""What scoring in groups gains: the quickstart's sensitivity profile, plain against shared, interleaved, one thread.

    python benchmarks/search/shared.py --rounds 5     # a minute or two; on a quiet machine

The policies are those that a search of the space profiles, on the examples that it takes for that.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paired import machine, paired_ratio
from record import HERE, open_lexicon, open_task

from autoprune.engine.profiling import EXAMPLES, profile_policies
from autoprune.evaluate.evaluator import Evaluator, Job
from autoprune.evaluate.group import run_group
from autoprune.evaluate.sharing import share_out
from autoprune.pruning.families import family_of
from autoprune.spaces.schema import load_space_file
from autoprune.spaces.space import Space


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--space", default="quick")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of runs")
    options = parser.parse_args()
    task = open_task()
    tables, digests = open_lexicon(task, HERE)
    n_layers = family_of(task.model).n_layers(task.model)
    plan = profile_policies(Space(load_space_file(options.space), n_layers), digests)
    policies = {policy.digest(): policy for probes in plan.values() for _, policy in probes}
    (group,) = share_out(list(policies.values()), 1, n_layers)
    jobs = [Job(policy.digest(), policy, 0, EXAMPLES) for policy in group]
    evaluator = Evaluator(task, tables)
    same = [np.array_equal(one.logits, evaluator.run(one.job).logits) for one in run_group(evaluator, jobs)]
    found = paired_ratio(
        lambda _: run_group(evaluator, jobs), lambda _: [evaluator.run(job) for job in jobs], [None], options.rounds
    )
    print(f"{len(jobs)} policies, {EXAMPLES} examples, logits the same to the bit: {all(same)}; {machine()}")
    ratio, low, high = (found[name] for name in ("ratio", "low", "high"))
    print(f"shared {found['policy_ms'] / 1000:.2f} s, plain {found['base_ms'] / 1000:.2f} s")
    print(f"shared / plain {ratio:.3f} [{low:.3f}, {high:.3f}]: {1 / ratio:.2f} times faster")


if __name__ == "__main__":
    main()

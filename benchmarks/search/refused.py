"""Do samplers find more when they are told which proposals were refused?

    python benchmarks/search/refused.py [--world 6 12] [--seeds 20] [--limit 40]

A refused proposal meets no target, or is a policy that was tried before: it costs nothing but its row in the database.
Here the same searches run with all of them told as pruned, and with all of them dropped (``store/drafts.py``), in pairs
by seed on the simulator. Prints and keeps, per sampler, the mean over seeds of hypervolume and regret told, and dropped
minus told with its standard error.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from figures import regret, volume
from optuna.storages import InMemoryStorage
from run import world_of
from searchers import product, quiet

from autoprune.store.drafts import DraftStorage

SAMPLERS = ("tpe", "evolution")
"""Those that look at pruned trials; to the others refused proposals are nothing."""
BUDGET = 0.5


def searched(layers: str, sampler: str, seed: int, limit: float, drop: bool) -> list[float]:
    """Return hypervolume and regret halfway and at the end."""
    world = world_of(layers, seed, BUDGET)
    found = product(world, sampler, seed, BUDGET, limit, DraftStorage(InMemoryStorage()) if drop else None).found
    rows = [(one.spent, one.ratio, one.seen, one.score, one.digest) for one in found]
    stages = [[row for row in rows if row[0] <= spent] for spent in (limit / 2, limit)]
    return [f for known in stages for f in (volume(known, world.truth), regret(known, world.truth, BUDGET))]


def compared(layers: str, sampler: str, seeds: int, limit: float) -> dict[str, Any]:
    pairs = np.asarray(
        [[searched(layers, sampler, seed, limit, drop) for drop in (False, True)] for seed in range(seeds)]
    )
    told, change = pairs[:, 0], pairs[:, 1] - pairs[:, 0]
    names = (f"volume@{limit / 2:g}", f"regret@{limit / 2:g}", f"volume@{limit:g}", f"regret@{limit:g}")
    return {
        name: {
            "told": round(float(told[:, i].mean()), 2),
            "dropped_minus_told": round(float(change[:, i].mean()), 3),
            "standard_error": round(float(change[:, i].std(ddof=1) / seeds**0.5), 3),
        }
        for i, name in enumerate(names)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--world", nargs="+", default=["6", "12"], help="numbers of layers of the simulator")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--limit", type=float, default=40.0, help="full-evaluation equivalents per search")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "refused.json")
    options = parser.parse_args()
    quiet()
    result = {
        f"{layers} layers": {sampler: compared(layers, sampler, options.seeds, options.limit) for sampler in SAMPLERS}
        for layers in options.world
    }
    text = json.dumps({"seeds": options.seeds, "budget": BUDGET, "worlds": result}, indent=1)
    options.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()

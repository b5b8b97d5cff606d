"""A rung in parts: workers share what one policy still lacks, so that none idles while another ends a long rung."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from autoprune.evaluate.evaluator import Job
from autoprune.evaluate.quality import Logits
from autoprune.policy import PruningPolicy

_SHORTEST = 256  # examples: attaching a policy costs as much as some few
_MOST = 4  # a policy that kills its worker kills one per part before it is given up


def rung_jobs(key: str, policy: PruningPolicy, start: int, stop: int, workers: int) -> list[Job]:
    """Return jobs that score a policy from example ``start`` to ``stop``.

    Args:
        key: Digest of the policy.
        policy: What to score.
        start: First example.
        stop: Where the rung ends.
        workers: How many can share it; parts are as many, but four at most, and have 256 examples at least.
    """
    count = max(1, min(workers, _MOST, (stop - start) // _SHORTEST))
    edges = [start + (stop - start) * part // count for part in range(count + 1)]
    return [Job(key, policy, *pair) for pair in pairwise(edges)]


@dataclass
class Rung:
    """Collects the parts of a rung, which come in any order.

    Attributes:
        jobs: The parts, in the order of the examples.
        seconds: Time that workers spent on those that came.
    """

    jobs: list[Job]
    seconds: float = 0.0
    _logits: dict[int, Logits] = field(default_factory=dict)

    def take(self, start: int, logits: Logits, seconds: float) -> bool:
        """Keep the logits of the part that starts there; return whether it was the last to come."""
        self._logits[start] = logits
        self.seconds += seconds
        return len(self._logits) == len(self.jobs)

    @property
    def start(self) -> int:
        """The rung's first example."""
        return self.jobs[0].start

    @property
    def logits(self) -> Logits:
        """Logits of the parts that came, in the order of the examples."""
        return np.concatenate([self._logits[start] for start in sorted(self._logits)])

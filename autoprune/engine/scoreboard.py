"""What is known of every policy's quality so far: logits by policy, compared with dense."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from autoprune.evaluate.quality import Floats, Logits, Quality, kl_per_example, measure_quality
from autoprune.evaluate.rungs import rung_sizes

if TYPE_CHECKING:
    from autoprune.tasks.base import Task


class Scoreboard:
    """Collects logits rung by rung.

    Args:
        task: Gives the labels and the metric.
        dense: Logits of dense on all examples, shape (n, classes).
    """

    def __init__(self, task: Task, dense: Logits) -> None:
        self._task = task
        self.dense = dense
        self._logits: dict[str, Logits] = {}

    @property
    def n_examples(self) -> int:
        """Held-out examples in all."""
        return len(self.dense)

    def add(self, digest: str, start: int, logits: Logits) -> None:
        """Append a rung's logits; ``start`` must be where the last rung ended.

        Raises:
            ValueError: There is a gap or an overlap.
        """
        known = self._logits.get(digest)
        if start != (0 if known is None else len(known)):
            raise ValueError(
                f"rung of {digest[:8]} starts at {start}, but {0 if known is None else len(known)} are known"
            )
        self._logits[digest] = logits if known is None else np.concatenate([known, logits])

    def done(self, digest: str) -> int:
        """Return on how many examples the policy was scored."""
        known = self._logits.get(digest)
        return 0 if known is None else len(known)

    def logits(self, digest: str) -> Logits:
        """Return the policy's logits so far, shape (m, classes)."""
        return self._logits[digest]

    def kl(self, digest: str) -> Floats:
        """Return KL to dense per example so far, shape (m,)."""
        return self.kl_of(self._logits[digest])

    def kl_of(self, logits: Logits) -> Floats:
        """Return KL to dense per example of logits on the first examples, shape (m,)."""
        return kl_per_example(self.dense[: len(logits)], logits)

    def rungs(self, digest: str) -> list[tuple[int, float, float]]:
        """Return (examples, mean KL, its standard error) at every rung that the policy has passed."""
        kl = self.kl(digest)
        passed = [size for size in rung_sizes(self.n_examples) if size <= len(kl)]
        return [(n, float(kl[:n].mean()), float(kl[:n].std() / np.sqrt(n))) for n in passed]

    def quality(self, digest: str) -> Quality:
        """Return the policy's quality on the examples seen so far."""
        logits = self._logits[digest]
        n = len(logits)
        labels = None if self._task.labels is None else self._task.labels[:n]
        # Macro F1 is the metric that is no mean over examples.
        additive = getattr(self._task.metric, "name", "f1") != "f1"
        return measure_quality(self.dense[:n], logits, labels, self._task.metric.score, additive=additive)

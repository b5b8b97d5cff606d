"""Runs a policy over examples and returns logits; what every pool's worker holds."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from autoprune.evaluate.quality import Logits

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from autoprune.policy import PruningPolicy
    from autoprune.pruning.tables import TableSet

BATCH_SIZE = 16


@dataclass(frozen=True)
class Job:
    """Score one policy on examples ``start`` to ``stop`` of the fixed order."""

    key: str
    policy: PruningPolicy
    start: int
    stop: int


@dataclass(frozen=True)
class Outcome:
    """What came of a job.

    Attributes:
        job: The job.
        logits: Shape (stop - start, classes), float32, in the fixed order; None if it failed.
        seconds: Time the worker spent.
        error: Why it failed, in one line.
    """

    job: Job
    logits: Logits | None
    seconds: float
    error: str | None = None


class ExampleSource(Protocol):
    """What the evaluator needs of a task; see ``autoprune.tasks.base.Task``."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    def batches(self, start: int, stop: int, batch_size: int) -> Iterator[tuple[np.ndarray, dict[str, Tensor]]]:
        """Yield (example indices, model inputs), sorted by length, padded to the batch."""
        ...


class Evaluator:
    """Scores policies on a task with one model held in memory.

    Args:
        source: Model, tokenizer and examples.
        tables: Tables that policies refer to.

    Attributes:
        model: The model that policies are attached to, on the weights of the source's.
        tables: Tables that policies refer to.
    """

    def __init__(self, source: ExampleSource, tables: TableSet) -> None:
        from autoprune.pruning.twin import twin

        self._source = source
        self.tables = tables
        self.model = twin(source.model)

    def logits(self, job: Job) -> Logits:
        """Return the pruned model's logits, shape (stop - start, classes).

        Raises:
            PolicyError: The policy does not fit the model.
        """
        with self.attached(job.policy):
            rows, parts = zip(*((rows, self.forward(inputs)) for rows, inputs in self.batches(job)), strict=True)
        logits: Logits = np.concatenate(parts)[np.argsort(np.concatenate(rows))]
        return logits

    def run(self, job: Job) -> Outcome:
        """Run a job; a failure of the candidate becomes an outcome, so that the search goes on."""
        begun = time.perf_counter()
        try:
            logits = self.logits(job)
        except Exception as error:  # noqa: BLE001 - whatever a candidate does must not end the search
            return Outcome(job, None, time.perf_counter() - begun, f"{type(error).__name__}: {error}")
        return Outcome(job, logits, time.perf_counter() - begun)

    def attached(self, policy: PruningPolicy) -> AbstractContextManager[object]:
        """Return a context in which the model carries the policy.

        Raises:
            PolicyError: The policy does not fit the model.
        """
        from autoprune.pruning.attach import attach

        if policy.is_dense:
            return nullcontext()
        return attach(self.model, policy, tokenizer=self._source.tokenizer, tables=self.tables)

    def batches(self, job: Job) -> Iterator[tuple[np.ndarray, dict[str, Tensor]]]:
        """Yield (example indices, model inputs) of a job, one batch after another."""
        return self._source.batches(job.start, job.stop, BATCH_SIZE)

    def forward(self, inputs: Mapping[str, Tensor]) -> Logits:
        """Return the logits of one batch under the policy that is attached, shape (B, classes)."""
        import torch

        with torch.inference_mode():
            here = {name: tensor.to(self.model.device) for name, tensor in inputs.items()}
            found: Logits = self.model(**here).logits.float().cpu().numpy()
        return found

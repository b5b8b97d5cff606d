"""Scores many policies at once: a layer runs once for all policies that agree up to it.

Nothing of the model or of pruning is done another way. The evaluator runs each policy on each batch; a layer that would
repeat what it did for the policy before hands out what it found then. Scorers that watch its attention are shown the
same queries and keys again. Policies should come in the order of ``sharing_order``, for only the latest is remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

import numpy as np

from autoprune.evaluate.evaluator import BATCH_SIZE, Evaluator, Job
from autoprune.evaluate.quality import Logits
from autoprune.policy import PruningPolicy
from autoprune.pruning.state import current_run

Prefix = tuple[str, ...]


def prefix(policy: PruningPolicy, layer: int) -> Prefix:
    """Return what a policy does until ``layer`` has its tokens, one entry per place from the input on."""
    found = {stage.depth[0]: str(sorted(stage.to_dict().items())) for stage in policy.stages}
    return tuple(found.get(place, "") for place in range(-1, layer + 1))


def sharing_order(policies: Sequence[PruningPolicy], n_layers: int) -> list[PruningPolicy]:
    """Return policies so that those that begin alike stand together."""
    return sorted(policies, key=lambda policy: prefix(policy, n_layers))


@dataclass
class _Held:
    prefix: Prefix
    call: tuple[Any, ...]
    options: dict[str, Any]
    attended: Any
    output: Any


@dataclass
class _OneBatch:
    """A task that has one batch."""

    model: Any
    tokenizer: Any
    inputs: Any = None

    def batches(self, start: int, stop: int, batch_size: int) -> Iterator[tuple[np.ndarray, Any]]:
        yield np.arange(len(self.inputs["input_ids"])), self.inputs


class SharedScoring:
    """Scores policies of ``keep`` stages before layers, on a model whose layers are a BERT encoder's.

    Args:
        task: Model, tokenizer and examples.
        tables: Tables that policies refer to.
    """

    def __init__(self, task: Any, tables: Any) -> None:
        self._task, self._source = task, _OneBatch(task.model, task.tokenizer)
        self._evaluator = Evaluator(self._source, tables)
        self._policy = PruningPolicy()
        self._held: dict[int, _Held] = {}
        # The last layer looks at the first token alone, and is nobody's prefix.
        for number, layer in enumerate(list(self._evaluator._model.base_model.encoder.layer)[:-1]):
            layer.forward = self._shared(number, layer.forward)

    def logits(self, policies: Sequence[PruningPolicy], n_examples: int) -> dict[str, Logits]:
        """Return the logits of policies on the first examples, each of shape (n_examples, classes), by digest."""
        parts: dict[str, list[Logits]] = {policy.digest(): [] for policy in policies}
        rows: list[np.ndarray] = []
        for indices, inputs in self._task.batches(0, n_examples, BATCH_SIZE):
            self._source.inputs = inputs
            self._held.clear()
            rows.append(indices)
            for policy in policies:
                self._policy = policy
                job = Job(policy.digest(), policy, 0, len(indices))
                parts[policy.digest()].append(self._evaluator.logits(job))
        order = np.argsort(np.concatenate(rows))
        return {digest: np.concatenate(found)[order] for digest, found in parts.items()}

    def _shared(self, number: int, plain: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(plain)  # the hooks read the names of its arguments
        def forward(*args: Any, **kwargs: Any) -> Any:
            run, here = current_run(), prefix(self._policy, number)
            if run is None:
                return plain(*args, **kwargs)
            held = self._held.get(number)
            if held is not None and held.prefix == here:
                watch, run.watch = run.watch, None
                if watch is not None:
                    watch(lambda *a, **k: held.attended, *held.call, **held.options)
                return held.output
            seen: list[Any] = []
            run.watch = _remember(run.watch, seen)
            output = plain(*args, **kwargs)
            self._held[number] = _Held(here, *seen, output)
            return output

        return forward


def _remember(watch: Callable[..., Any] | None, seen: list[Any]) -> Callable[..., Any]:
    """Return a watch that also keeps the attention call and its result."""

    def attend(stock: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = stock(*args, **kwargs) if watch is None else watch(stock, *args, **kwargs)
        seen.extend([args, kwargs, result])
        return result

    return attend

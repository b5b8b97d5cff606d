"""A task: model, data and metric, encoded once and served in batches.

Torch loads only when batches are made, so that specifications travel cheaply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

from autoprune._registry import TASKS
from autoprune.errors import ConfigError, DataError
from autoprune.tasks.encoding import Encoded, encode, length_batches, to_batch
from autoprune.tasks.metrics import Metric
from autoprune.tasks.ordering import Text

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Progress = Callable[[str], None]


@dataclass(frozen=True)
class TaskSpec:
    """What defines a task; ``TaskSpec()`` is the embedded quickstart.

    Attributes:
        model: Folder or hub id; None for the quickstart.
        dataset: File, folder or hub name (``name`` or ``name:configuration``); None for the quickstart.
        kind: Name of the task kind.
        metric: ``accuracy`` or ``f1`` (macro).
        split: Which split is scored; None chooses test, then validation, then the only one.
        text_columns: One or two columns; empty guesses.
        label_column: None guesses; a data set without one is scored by agreement with dense.
        trust_remote_code: Whether the model repository may run its own code.
        max_examples: Score at most this many held-out examples.
    """

    model: str | None = None
    dataset: str | None = None
    kind: str = "text-classification"
    metric: str = "accuracy"
    split: str | None = None
    text_columns: tuple[str, ...] = ()
    label_column: str | None = None
    trust_remote_code: bool = False
    max_examples: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "text_columns", tuple(self.text_columns))
        if len(self.text_columns) > 2:
            raise ConfigError(f"At most two text columns can be given, not {len(self.text_columns)}.")
        if self.max_examples is not None and self.max_examples < 2:
            raise ConfigError(f"At least 2 examples must be scored, not {self.max_examples}.")

    def to_dict(self) -> dict[str, Any]:
        """Return the specification as JSON types; ``from_dict`` gives it back."""
        return {**asdict(self), "text_columns": list(self.text_columns)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TaskSpec:
        """Read a specification.

        Raises:
            ConfigError: Unknown fields, or a value out of range.
        """
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(data) - known)
        if unknown:
            raise ConfigError(
                f"The task has unknown fields: {', '.join(unknown)}.", f"Known fields: {', '.join(sorted(known))}."
            )
        return cls(**data)


@dataclass
class Task:
    """Model, data and metric, ready to use.

    Attributes:
        spec: What defined it.
        name: Short and safe as a file name, such as ``minilm-docstrings``.
        model: In evaluation mode, float32, on the CPU.
        tokenizer: Of the model.
        texts: Held-out examples in a fixed, length-stratified order: every prefix is representative.
        labels: (n,) int64, or None when the data has none.
        label_names: Name of each of the model's classes.
        metric: Agreement with dense when there are no labels.
        calibration: Examples that are never scored, in an order of the same kind.
        fingerprint: sha256 (hex) of the data.
        model_digest: sha256 (hex) of weights and configuration.
        max_length: Tokens at which examples are cut.
        notes: What a user should be told, one sentence each.
    """

    spec: TaskSpec
    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    texts: Sequence[Text]
    labels: np.ndarray | None
    label_names: list[str]
    metric: Metric
    calibration: Sequence[Text]
    fingerprint: str
    model_digest: str
    max_length: int
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        """Return the number of held-out examples."""
        return len(self.texts)

    @cached_property
    def encoded(self) -> list[Encoded]:
        """Held-out examples as token ids, cut to ``max_length``; made at the first use."""
        return encode(self.tokenizer, self.texts, self.max_length)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each held-out example after cutting, (n,) int64."""
        import numpy as np

        return np.array([len(row["input_ids"]) for row in self.encoded], dtype=np.int64)

    def batches(self, start: int, stop: int, batch_size: int) -> Iterator[tuple[np.ndarray, dict[str, Tensor]]]:
        """Yield held-out examples ``start`` to ``stop`` (exclusive), sorted by length, padded per batch.

        Args:
            start: First example in the fixed order.
            stop: One past the last; the end of the data cuts it.
            batch_size: Examples per batch.

        Yields:
            Indices (B,) int64 into ``texts``, and model inputs (B, longest of the batch) int64.
        """
        import numpy as np

        chosen = range(start, min(stop, len(self.texts)))
        for group in length_batches([self.encoded[i] for i in chosen], batch_size):
            rows = [self.encoded[chosen[i]] for i in group]
            yield np.array([chosen[i] for i in group], dtype=np.int64), to_batch(self.tokenizer, rows)

    def calibration_batches(
        self, n: int, batch_size: int, max_length: int | None = None
    ) -> Iterator[dict[str, Tensor]]:
        """Yield the first ``n`` calibration examples (or all there are), sorted by length, padded per batch.

        Args:
            n: How many examples.
            batch_size: Examples per batch.
            max_length: Cut at so many tokens; None is the task's own limit.
        """
        limit = min(self.max_length, max_length or self.max_length)
        rows = encode(self.tokenizer, self.calibration[:n], limit)
        for group in length_batches(rows, batch_size):
            yield to_batch(self.tokenizer, [rows[i] for i in group])

    def inputs(self, lengths: Sequence[int], batch_size: int = 1) -> list[dict[str, Tensor]]:
        """Return timing inputs: real held-out texts cut to the wanted lengths, without padding.

        Each takes the next texts that are long enough; they repeat when there are too few.

        Args:
            lengths: Tokens of each input, special tokens included.
            batch_size: Rows of each input.

        Returns:
            One dict per wanted length, tensors (batch_size, length) int64.

        Raises:
            DataError: No text is that long, or the model does not take that many tokens.
        """
        return self._cut(lengths, batch_size, self._long_enough)

    def calibration_inputs(self, lengths: Sequence[int], batch_size: int, n: int) -> list[dict[str, Tensor]]:
        """Return the like of ``inputs`` from the last ``n`` calibration texts; where none is that long, the longest.

        The last ones come first: tables are learned on the first ones, and know those better than any other text.

        Args:
            lengths: Tokens of each input, special tokens included.
            batch_size: Rows of each input.
            n: From how many calibration texts (or all there are).

        Raises:
            DataError: There is no calibration text.
        """
        texts = list(self.calibration[::-1][:n])
        if not texts:
            raise DataError("No text is left to calibrate on: all of them are scored.", "Give more data.")
        sizes = [len(row["input_ids"]) for row in encode(self.tokenizer, texts, max(lengths))]

        def long_enough(length: int) -> list[Text]:
            least = min(length, max(sizes))
            return [text for text, size in zip(texts, sizes, strict=True) if size >= least]

        return self._cut(lengths, batch_size, long_enough)

    def _cut(
        self, lengths: Sequence[int], batch_size: int, long_enough: Callable[[int], list[Text]]
    ) -> list[dict[str, Tensor]]:
        """Return one input per length from texts that are long enough for it; each takes the next ones."""
        turn: dict[int, int] = {}
        out = []
        for length in lengths:
            texts = long_enough(length)
            first = turn.get(length, 0)
            turn[length] = first + batch_size
            chosen = [texts[(first + i) % len(texts)] for i in range(batch_size)]
            out.append(to_batch(self.tokenizer, encode(self.tokenizer, chosen, length)))
        return out

    def _long_enough(self, length: int) -> list[Text]:
        if length > self.max_length:
            raise DataError(
                f"The model takes at most {self.max_length} tokens, not {length}.",
                f"Choose a sequence length up to {self.max_length}.",
            )
        found = [text for text, n in zip(self.texts, self.lengths, strict=True) if n >= length]
        if not found:
            longest = int(self.lengths.max())
            raise DataError(
                f"No text has {length} tokens; the longest has {longest}.",
                f"Choose a sequence length up to {longest}, or lengths drawn from the data.",
            )
        return found


def load_task(spec: TaskSpec, progress: Progress | None = None) -> Task:
    """Load model and data.

    Args:
        spec: What to load; ``TaskSpec()`` is the quickstart.
        progress: Called with one line per step.

    Raises:
        InputError: Something of the user's cannot be used (``DataError``, ``ModelError``, ``ConfigError``).
        AssetError: A file of the quickstart is missing or damaged.
    """
    if spec.model is None and spec.dataset is None:
        from autoprune.tasks import quickstart

        return quickstart.load(spec, progress)
    task: Task = TASKS.get(spec.kind)(spec, progress)
    return task


def load_model(spec: TaskSpec) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a task's model and tokenizer alone: its data need not be here.

    Args:
        spec: Of the task; every kind so far is a text classifier's.

    Raises:
        ModelError: The model cannot be used.
        AssetError: A file of the quickstart is missing or damaged.
    """
    if spec.model is None:
        from autoprune.tasks import quickstart

        return quickstart.load_model()
    from autoprune.tasks import models

    config = models.load_config(spec.model, trust_remote_code=spec.trust_remote_code)
    return models.load_classifier(spec.model, config, trust_remote_code=spec.trust_remote_code)

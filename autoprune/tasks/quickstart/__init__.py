"""The embedded quickstart: MiniLM with a shipped adapter, on docstrings of installed libraries.

Needs no network, no training and no files of the user's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from autoprune.errors import AssetError, ConfigError
from autoprune.tasks.metrics import metric_for
from autoprune.tasks.ordering import stratified_order

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from autoprune.tasks.base import Progress, Task, TaskSpec
    from autoprune.tasks.quickstart.adapter import AdapterCard
    from autoprune.tasks.quickstart.corpus import Corpus

NAME = "minilm-docstrings"


def load(spec: TaskSpec, progress: Progress | None = None) -> Task:
    """Load the quickstart.

    Args:
        spec: Its metric and ``max_examples`` count; options of a data set are refused.
        progress: Called with one line per step.

    Raises:
        AssetError: A file is missing or damaged.
        ConfigError: An option needs a data set.
    """
    if spec.split or spec.text_columns or spec.label_column:
        raise ConfigError(
            "Options of a data set (split, text column, label column) need one.", "Add --model and --dataset."
        )
    from autoprune.tasks.base import Task
    from autoprune.tasks.digests import data_fingerprint, model_digest
    from autoprune.tasks.quickstart import adapter, corpus

    card = adapter.AdapterCard.read()
    data = corpus.load(progress)
    if data.classes != card.classes:
        raise AssetError(
            f"The quickstart's adapter knows other classes ({', '.join(card.classes)}) than its corpus.",
            "Install autoprune again, or run scripts/train_quickstart.py in a checkout.",
        )
    if progress is not None:
        progress("loading MiniLM")
    model, tokenizer = load_model()
    texts, labels = _ordered(data, corpus.HELD_OUT, spec.max_examples)
    calibration, _ = _ordered(data, corpus.CALIBRATION, None)
    return Task(
        spec=spec,
        name=NAME,
        model=model,
        tokenizer=tokenizer,
        texts=texts,
        labels=labels,
        label_names=list(card.classes),
        metric=metric_for(spec.metric, labelled=True),
        calibration=calibration,
        fingerprint=data_fingerprint(texts, labels, calibration, card.classes),
        model_digest=model_digest(model),
        max_length=adapter.MAX_LENGTH,
        notes=_notes(data, card),
    )


def load_model() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the quickstart's model and tokenizer alone.

    Raises:
        AssetError: A file is missing or damaged.
    """
    from transformers import AutoTokenizer

    from autoprune.tasks.quickstart import adapter, checkpoint

    card, folder = adapter.AdapterCard.read(), checkpoint.checkpoint_dir()
    model = adapter.load_model(folder, adapter.read_adapter(card), card.classes)
    return model, AutoTokenizer.from_pretrained(folder)


def _ordered(data: Corpus, split: str, most: int | None) -> tuple[list[str], np.ndarray]:
    import numpy as np

    examples = data.splits[split]
    order = stratified_order([e.text for e in examples], [e.label for e in examples])[:most]
    return [examples[i].text for i in order], np.array([examples[i].label for i in order], dtype=np.int64)


def _notes(data: Corpus, card: AdapterCard) -> list[str]:
    changed = [f"{name} {version}" for name, version in data.versions.items() if card.versions.get(name) != version]
    if not changed:
        return []
    return [
        f"The quickstart's accuracy of {card.heldout_accuracy:.3f} was measured with other versions of some "
        f"libraries (here {', '.join(changed)})."
    ]

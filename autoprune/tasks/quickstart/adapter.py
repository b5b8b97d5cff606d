"""The quickstart's adapter: low-rank weight changes and a head, merged into the checkpoint at load.

Stored in half precision: ``<linear>.down`` (rank, in), ``<linear>.up`` (out, rank), ``head.weight``
(classes, hidden) and ``head.bias`` (classes,). The weight change of a linear layer is ``up @ down``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune import resources
from autoprune.errors import AssetError
from autoprune.tasks.models import quiet_loading

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

ADAPTER = ("assets", "quickstart_adapter.safetensors")
CARD = ("assets", "quickstart_adapter.json")
MAX_LENGTH = 256  # tokens; the length that the checkpoint was trained for
_REINSTALL = "Install autoprune again, or run scripts/train_quickstart.py in a checkout."


@dataclass(frozen=True)
class AdapterCard:
    """What is known about the shipped adapter.

    Attributes:
        classes: Names of the classes, in the order of the logits.
        sha256: Of the adapter's file.
        heldout_accuracy: Reached on the held-out texts (0 to 1), with the versions below.
        heldout_macro_f1: The same for macro F1.
        heldout_examples: How many held-out texts there were.
        corpus_fingerprint: Of the held-out and calibration texts.
        builder_version: Of the corpus builder.
        versions: Installed library versions when it was trained.
        training: Settings of the training run.
    """

    classes: tuple[str, ...]
    sha256: str
    heldout_accuracy: float
    heldout_macro_f1: float
    heldout_examples: int
    corpus_fingerprint: str
    builder_version: int
    versions: Mapping[str, str]
    training: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return the card as JSON types."""
        return asdict(self)

    @classmethod
    def read(cls) -> AdapterCard:
        """Read the card that ships with autoprune.

        Raises:
            AssetError: It is missing or damaged.
        """
        path = resources.resource(*CARD)
        try:
            data = json.loads(path.read_text("utf-8"))
            data = {field.name: data[field.name] for field in fields(cls)}
            return cls(**{**data, "classes": tuple(data["classes"])})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise AssetError(f"The quickstart's adapter card {path} is damaged: {error}.", _REINSTALL) from None


def load_model(checkpoint: Path, adapter: Mapping[str, Tensor] | None, classes: tuple[str, ...]) -> PreTrainedModel:
    """Return the checkpoint as a classifier with the adapter merged in.

    Args:
        checkpoint: Folder of the verified checkpoint.
        adapter: Tensors as described at the top of this module; None leaves a new head (for training).
        classes: Names of the classes, in the order of the head's rows.

    Returns:
        A ``BertForSequenceClassification`` in evaluation mode, float32, on the CPU.

    Raises:
        AssetError: The adapter does not fit the model.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    with quiet_loading():  # the new classifier is expected: it comes from the adapter
        model = AutoModelForSequenceClassification.from_pretrained(
            checkpoint,
            use_safetensors=True,
            dtype=torch.float32,
            num_labels=len(classes),
            id2label=dict(enumerate(classes)),
            label2id={name: i for i, name in enumerate(classes)},
        )
    try:
        if adapter is not None:
            merge(model, adapter)
    except (KeyError, AttributeError, RuntimeError) as error:
        raise AssetError(f"The quickstart's adapter does not fit its model: {error}.", _REINSTALL) from None
    return model.eval()  # type: ignore[no-any-return]


def merge(model: PreTrainedModel, adapter: Mapping[str, Tensor]) -> None:
    """Add the low-rank changes to the weights of ``model``, and set its classifier.

    Args:
        model: A ``BertForSequenceClassification``.
        adapter: Tensors as described at the top of this module.
    """
    import torch

    with torch.no_grad():
        for name, down in adapter.items():
            if name.endswith(".down"):
                layer = name.removesuffix(".down")
                model.get_parameter(f"{layer}.weight").add_(adapter[f"{layer}.up"].float() @ down.float())
        model.get_parameter("classifier.weight").copy_(adapter["head.weight"])
        model.get_parameter("classifier.bias").copy_(adapter["head.bias"])


def read_adapter(card: AdapterCard) -> dict[str, Tensor]:
    """Read the adapter's tensors, verified against the card.

    Raises:
        AssetError: The file is missing, or is not the one that the card describes.
    """
    from safetensors.torch import load_file

    from autoprune.tasks.quickstart.checkpoint import verify

    path = resources.resource(*ADAPTER)
    verify(path.parent, {path.name: card.sha256}, _REINSTALL)
    return load_file(path)

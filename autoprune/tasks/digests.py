"""Digests that tell whether model or data are the same as before."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from autoprune.tasks.ordering import Text

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedModel

# What says where or how a model was saved, not what it computes.
_INCIDENTAL = frozenset({"_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures"})


def model_digest(model: PreTrainedModel) -> str:
    """Return the sha256 (hex) over configuration, parameters and saved buffers."""
    import torch

    config = {key: value for key, value in model.config.to_dict().items() if key not in _INCIDENTAL}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
        digest.update(memoryview(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()


def data_fingerprint(
    texts: Sequence[Text], labels: np.ndarray | None, calibration: Sequence[Text], names: Sequence[str]
) -> str:
    """Return the sha256 (hex) over held-out texts, labels, calibration texts and class names, in order."""
    rows = [texts, None if labels is None else labels.tolist(), calibration, names]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def safe_name(*parts: str) -> str:
    """Return ``parts`` joined by hyphens, lower case, safe as a file name."""
    words = (re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-")[:40] for part in parts)
    return "-".join(word for word in words if word) or "task"

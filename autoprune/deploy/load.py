"""``load``: an exported folder becomes a model that prunes, in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel

from autoprune.deploy.policy_file import TABLES_FILE, read_policy_file
from autoprune.deploy.quiet import no_progress_bars
from autoprune.errors import AssetError, ConfigError, ModelError
from autoprune.policy import PruningPolicy
from autoprune.pruning.attach import attach
from autoprune.pruning.tables import TableSet


def load(
    directory: str | Path, *, device: str | torch.device = "cpu", trust_remote_code: bool = False
) -> PreTrainedModel:
    """Load an export with its policy attached.

    The result is the plain model class of transformers in eval mode, so that everything that takes such a
    model takes it, pipelines for one: ``pipeline("text-classification", model=load(d), tokenizer=d)``.
    Compiled or exported it takes rows of one length, without padding; see ``attach``.

    Args:
        directory: A folder that ``autoprune export`` or ``SearchResult.save`` wrote.
        device: Where the model goes.
        trust_remote_code: Let code in the folder run, for models whose class is not in transformers.

    Raises:
        ModelError: There is no such folder, it is no export, or its weights cannot be loaded.
        PolicyError: The policy file has unknown fields, or does not fit the model.
        AssetError: A table is missing or damaged.
        ConfigError: There is no such device.
    """
    folder = Path(directory).expanduser()
    policy = read_policy_file(folder).policy
    tables = policy_tables(policy, folder)
    model, tokenizer = load_dense(folder, device=device, trust_remote_code=trust_remote_code)
    attach(model, policy, tokenizer=tokenizer, tables=tables)
    return model


def load_dense(
    directory: str | Path, *, device: str | torch.device = "cpu", trust_remote_code: bool = False
) -> tuple[PreTrainedModel, Any]:
    """Load model and tokenizer of an export without its policy.

    Raises:
        ModelError: They cannot be loaded.
        ConfigError: There is no such device.
    """
    folder = Path(directory).expanduser()
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(folder, **options)
        with no_progress_bars():
            model = _model_class(config, trust_remote_code).from_pretrained(folder, config=config, **options)
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    except (OSError, ValueError, KeyError, RuntimeError, json.JSONDecodeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"The model in {folder} cannot be loaded: {reason}", "Export the policy again.") from error
    try:
        model = model.to(device)
    except RuntimeError as error:
        raise ConfigError(
            f"There is no device {str(device)!r} here: {str(error).splitlines()[0]}", "Use cpu."
        ) from None
    return model.eval(), tokenizer


def _model_class(config: PreTrainedConfig, trust_remote_code: bool) -> Any:
    """Return the class that wrote the weights, so that the head comes back as it was."""
    names = config.architectures or []
    found = getattr(transformers, names[0], None) if names else None
    if found is not None and issubclass(found, PreTrainedModel):
        return found
    if trust_remote_code:
        return transformers.AutoModelForSequenceClassification
    raise ModelError(
        f"The class {names[0] if names else '(none named)'} of this model is not part of transformers.",
        "If you trust the code in the folder, load it with trust_remote_code=True.",
    )


def policy_tables(policy: PruningPolicy, folder: Path) -> TableSet | None:
    """Read the tables that a policy names from an export; None if it names none. Raises ``AssetError``."""
    wanted = set(policy.tables())
    if not wanted:
        return None
    tables = TableSet.load(folder / TABLES_FILE)
    missing = sorted(wanted - set(tables))
    if missing:
        raise AssetError(f"The export {folder} lacks the table {missing[0]}.", "Export the policy again.")
    return tables

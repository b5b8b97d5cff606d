"""Loads a text classifier from a folder or the hub, with one clear sentence for everything that can go wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune.errors import ModelError
from autoprune.tasks import hub

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

_HEAD = "ForSequenceClassification"


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Silence transformers' weight-loading bar and warnings, which would tear the progress display."""
    from transformers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def load_config(name: str, *, trust_remote_code: bool = False) -> PreTrainedConfig:
    """Read the configuration, and check that the model is a single-label text classifier.

    Args:
        name: Folder or hub id.
        trust_remote_code: Whether the repository may run its own code.

    Raises:
        ModelError: The model does not exist, cannot be reached, or is no such classifier.
        UnsupportedModelError: Its architecture cannot be pruned.
    """
    from transformers import AutoConfig

    from autoprune.pruning.families import family_of

    _check_path(name)
    local = hub.offline(name)
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            _place(name), trust_remote_code=trust_remote_code, local_files_only=local
        )
    except (OSError, ValueError, KeyError) as error:
        raise _unloadable(name, error, local) from None
    _check_kind(name, config)
    family_of(config)  # an architecture that cannot be pruned is said before its weights and labels are read
    return config


def load_classifier(
    name: str, config: PreTrainedConfig, *, trust_remote_code: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load weights (safetensors only: nothing is unpickled) and tokenizer.

    Args:
        name: Folder or hub id.
        config: From ``load_config``.
        trust_remote_code: Whether the repository may run its own code.

    Returns:
        The model (evaluation mode, float32, CPU) and its tokenizer.

    Raises:
        ModelError: A file is missing or damaged, or the head has no weights.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    place, local = _place(name), hub.offline(name)
    options = {"trust_remote_code": trust_remote_code, "local_files_only": local}
    try:
        with quiet_loading():
            model, info = AutoModelForSequenceClassification.from_pretrained(
                place, config=config, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **options
            )
            tokenizer = AutoTokenizer.from_pretrained(place, **options)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise _unloadable(name, error, local) from None
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(
            f"The model {name!r} has no weights for {', '.join(missing[:3])}, so it was never trained as a classifier.",
            "Fine-tune it for your classes first, and save it whole.",
        )
    return model.eval(), tokenizer


def class_names(config: PreTrainedConfig) -> dict[int, str]:
    """Return the model's classes by number."""
    names: dict[Any, Any] = config.id2label or {}
    return {int(number): str(name) for number, name in sorted(names.items())}


def _place(name: str) -> str:
    return str(Path(name).expanduser())


def _check_path(name: str) -> None:
    path = Path(name).expanduser()
    if path.is_dir():
        return
    if path.exists():
        raise ModelError(f"The model {name!r} is a file, not a folder.", "Give the folder that save_pretrained wrote.")
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1 or "\\" in name or not name:
        raise ModelError(f"There is no model folder {name!r}.", "Check the path, or give a hub id such as org/name.")


def _check_kind(name: str, config: PreTrainedConfig) -> None:
    architectures = config.architectures or []
    if not any(_HEAD in architecture for architecture in architectures):
        raise ModelError(
            f"The model {name!r} is no text classifier: its architecture is {', '.join(architectures) or 'not named'}.",
            f"Give a model saved with a head for classes (*{_HEAD}).",
        )
    problem: Any = getattr(config, "problem_type", None)
    if len(class_names(config)) < 2 or problem in ("regression", "multi_label_classification"):
        kind = "several labels at once" if problem == "multi_label_classification" else "a number (regression)"
        raise ModelError(
            f"The model {name!r} predicts {kind}, not one of two or more classes.",
            "Only single-label classifiers can be searched.",
        )


def _unloadable(name: str, error: Exception, local: bool) -> ModelError:
    if local and hub.not_cached(error):
        return ModelError(
            f"The model {name!r} cannot be loaded: it is no folder, is not (whole) in the hub's cache, and "
            f"{hub.why_offline()}.",
            "Check the spelling and the network, or give the folder of a saved model.",
        )
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[0].rstrip(".")[:300] if lines else type(error).__name__
    if Path(name).expanduser().is_dir():
        hint = "Check that the folder holds config.json, model.safetensors and tokenizer files, all complete."
    else:
        hint = "Check the hub id and the network, or give the folder of a saved model."
    if "trust_remote_code" in str(error):
        hint = "If you trust its authors, repeat with --trust-remote-code."
    return ModelError(f"The model {name!r} cannot be loaded: {reason}.", hint)

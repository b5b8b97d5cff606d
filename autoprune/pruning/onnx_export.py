"""A model with the policy that is attached to it, as an ONNX graph of one fixed shape."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from autoprune.errors import DataError, MissingExtraError, PolicyError, UnsupportedModelError
from autoprune.pruning.attach import attached_handle
from autoprune.pruning.attention import claim
from autoprune.pruning.families import family_of
from autoprune.pruning.known import guarded_known
from autoprune.pruning.onnx_ops import translations
from autoprune.pruning.plan import StagePlan

_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
_MASK = "attention_mask"
OUTPUT = "logits"


def require_onnx() -> None:
    """Raise ``MissingExtraError`` unless what export and runtime need is installed."""
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"ONNX needs packages that are not installed: {', '.join(missing)}.", "Run: pip install 'autoprune[onnx]'."
        )


def check_stage(stage: StagePlan) -> None:
    """Refuse a stage that no fixed graph can hold.

    Raises:
        PolicyError: How many tokens leave depends on the text, or the scorer runs a backward pass.
    """
    who = f"Stage {stage.index} ({stage.stage.describe()})"
    if stage.stage.keep is None:
        raise PolicyError(
            f"{who} leaves as many tokens as the text asks for, and an ONNX graph has fixed shapes.",
            "Use keep instead of threshold or mass, or the runtime eager.",
        )
    if "saliency" in stage.needs:
        raise PolicyError(
            f"{who} runs a backward pass, which an ONNX graph cannot hold.",
            "Use another scorer than saliency, or the runtime eager.",
        )


def check_exportable(model: PreTrainedModel) -> None:
    """Refuse the policy that is attached to a model if no fixed graph can hold it; see ``check_stage``."""
    handle = attached_handle(model)
    for stage in () if handle is None else handle.plan.stages:
        check_stage(stage)


def graph_inputs(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what the graph takes of a model's input: all but the mask, which must mask nothing.

    Raises:
        DataError: The input is padded.
    """
    mask = batch.get(_MASK)
    if mask is not None and not bool(mask.all()):
        raise DataError(
            "An ONNX graph of fixed shape takes texts without padding, and this input is padded.",
            "Give rows of one length.",
        )
    return {name: tensor for name, tensor in batch.items() if name != _MASK}


def guarded_tokens(model: PreTrainedModel, batch: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Return the protected tokens per row of an input under the attached policy; () without one.

    Args:
        model: The model; it runs once.
        batch: Its input.
    """
    handle = attached_handle(model)
    if handle is None:
        return ()
    with handle.record() as trace, torch.inference_mode():
        model(**batch)
    return tuple(trace.guarded)


def export_onnx(
    model: PreTrainedModel, batch: Mapping[str, Tensor], path: Path, guarded: tuple[int, ...] | None = None
) -> None:
    """Write the model's forward, from ids to logits, with the attached policy inside.

    The graph takes inputs of this shape without padding, and no mask. Where so few tokens stay that the protected
    ones decide how many, it leaves as many as of this input.

    Args:
        model: In evaluation mode, float32, on the CPU.
        batch: An input of the wanted shape, tensors (rows, tokens) int64.
        path: The file; weights over 1.5 GB go to a second one beside it.
        guarded: What ``guarded_tokens`` returns for the input; None: it is called here.

    Raises:
        MissingExtraError: The extra ``onnx`` is not installed.
        PolicyError: No fixed graph can hold the policy.
        DataError: The input is padded.
        UnsupportedModelError: PyTorch or its ONNX exporter cannot follow this model or a method.
    """
    require_onnx()
    check_exportable(model)
    inputs = graph_inputs(batch)
    known = guarded_tokens(model, batch) if guarded is None else guarded
    with _hushed():
        program = _followed(model, lambda: _trace(model, inputs, known))
        converted = _followed(model, lambda: _convert(program, tuple(inputs)))
        converted.save(path)


@contextmanager
def _hushed() -> Iterator[None]:
    """Keep both exporters from warning about their own insides, such as the lack of torchvision."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class _Logits(nn.Module):
    """The model's first output alone."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, **inputs: Tensor) -> Tensor:
        found: Tensor = self.model(**inputs, return_dict=True)[0]
        return found


def _trace(model: PreTrainedModel, inputs: dict[str, Tensor], guarded: tuple[int, ...]) -> Any:
    # Our attention functions leave out masks that mask nothing, for dense and pruned alike.
    release = claim(family_of(model).core(model))
    try:
        with torch.no_grad(), guarded_known(guarded):
            return torch.export.export(_Logits(model), (), inputs, strict=False)
    finally:
        release()


def _convert(program: Any, names: tuple[str, ...]) -> Any:
    return torch.onnx.export(
        program,
        input_names=list(names),
        output_names=[OUTPUT],
        dynamo=True,
        custom_translation_table=translations(),
        verbose=False,
    )


def _followed(model: PreTrainedModel, step: Callable[[], Any]) -> Any:
    """Run a step of the export; say in words which model or policy it cannot follow."""
    try:
        return step()
    except PolicyError:
        raise
    except Exception as error:
        handle = attached_handle(model)
        what = type(model).__name__ if handle is None else f"{type(model).__name__} under {handle.policy.describe()}"
        reason = " ".join(str(error.__cause__ or error).split())[:300] or type(error).__name__
        raise UnsupportedModelError(
            f"{what} cannot be exported to ONNX: {reason}", "Use the runtime eager, or another scorer."
        ) from error

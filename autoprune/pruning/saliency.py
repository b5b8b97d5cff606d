"""Gradient saliency at run time, on a copy of the model that carries no hooks."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from autoprune.errors import PolicyError
from autoprune.pruning.attention import is_tracing
from autoprune.pruning.family import Family
from autoprune.pruning.twin import twin


class Saliency:
    """Computes the norm of gradient times state for each token.

    Args:
        model: The model; a twin that shares its weights does the work.
        family: Its row in the table of architectures.
    """

    def __init__(self, model: PreTrainedModel, family: Family) -> None:
        self._original, self._family = model, family
        self._twin = twin(model)
        self._names = set(inspect.signature(model.forward).parameters)
        self._whole = not getattr(model.config, "is_encoder_decoder", False)

    def _current(self) -> PreTrainedModel:
        """Return the twin, made anew when the model's tensors are others: moving a model replaces its buffers."""
        if any(mine is not theirs for mine, theirs in zip(_tensors(self._twin), _tensors(self._original))):
            self._twin = twin(self._original)
        return self._twin

    def __call__(self, kwargs: dict[str, Any]) -> Tensor:
        """Return (B, N) float32, not negative.

        The whole model is run where its arguments are the core's (then the gradient is that of the best logit), else
        the core alone (then it is that of the squared mean state).

        Args:
            kwargs: Arguments of the core.

        Raises:
            PolicyError: The forward is being traced, where no backward can run.
        """
        if is_tracing():
            raise PolicyError("The scorer 'saliency' cannot be traced.", "Use another scorer.")
        model = self._current()
        model.train(False)
        core, layer = self._family.core(model), self._family.layers(model)[0]
        tensors = {name: value for name, value in kwargs.items() if isinstance(value, Tensor)}
        whole = self._whole and set(tensors) <= self._names
        seen: list[Tensor] = []

        def catch(module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
            if seen:
                return None  # a shared layer runs several times; the first is the input
            hidden = args[0] if args else named["hidden_states"]
            seen.append(hidden.detach().requires_grad_(True))
            return ((seen[0], *args[1:]), named) if args else ((), {**named, "hidden_states": seen[0]})

        hook = layer.register_forward_pre_hook(catch, with_kwargs=True)
        try:
            with torch.inference_mode(False), torch.enable_grad():
                # Tensors made under inference mode cannot be part of a graph: copies can.
                copies = {name: value.clone() for name, value in tensors.items()}
                output = (model if whole else core)(**copies)
                (gradient,) = torch.autograd.grad(_objective(output, copies.get("attention_mask")), seen[0])
                found: Tensor = torch.linalg.vector_norm((gradient * seen[0]).detach().float(), dim=-1)
                return found
        finally:
            hook.remove()


def _tensors(model: PreTrainedModel) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def _objective(output: Any, mask: Tensor | None) -> Tensor:
    """Return what is differentiated; padding has no part in it."""
    logits = getattr(output, "logits", None)
    found: Tensor = logits.float().amax(-1) if isinstance(logits, Tensor) else output.last_hidden_state.float()
    whole = isinstance(logits, Tensor)
    if whole and found.dim() == 1:
        return found.sum()
    if mask is None or mask.shape[:2] != found.shape[:2]:
        return found.sum() if whole else found.mean(1).square().sum()
    real = mask.to(found.dtype)
    if whole:
        return (found * real).sum()
    return ((found * real.unsqueeze(-1)).sum(1) / real.sum(1, keepdim=True)).square().sum()

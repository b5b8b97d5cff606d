"""Attention functions that call the stock one and then let a stage look at queries, keys and values.

They are registered in both interfaces of transformers: without a mask function of the same name, a
model would get no mask at all and attend to padding.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask, sdpa_mask
from transformers.utils.import_utils import is_torchdynamo_exporting

from autoprune.errors import UnsupportedModelError
from autoprune.pruning.state import current_run

_PREFIX = "autoprune_"
_BACKENDS = ("sdpa", "eager")
_claims: dict[int, tuple[Any, int]] = {}


def plain_name(name: str) -> str:
    """Return the stock name behind one of ours: ``autoprune_sdpa`` gives ``sdpa``."""
    return name.removeprefix(_PREFIX)


def backend_of(core: nn.Module) -> str:
    """Return the stock name of the attention backend that a module tree runs on."""
    return plain_name(getattr(getattr(core, "config", None), "_attn_implementation_internal", None) or "eager")


def _eager(module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
    # Every model file has its own eager function; transformers falls back to it in the same way.
    function = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    if function is None:
        raise UnsupportedModelError(
            f"{type(module).__name__} has no eager attention function.",
            "Load the model with attn_implementation='sdpa'.",
        )
    result: tuple[Tensor, Tensor | None] = function(module, *args, **kwargs)
    return result


def _watched(stock: Callable[..., Any]) -> Callable[..., Any]:
    def attend(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
    ) -> Any:
        run = current_run()
        watch = None if run is None else run.watch
        if run is None or watch is None:
            return stock(module, query, key, value, attention_mask, **kwargs)
        run.watch = None  # only the first attention of a layer is its self-attention
        return watch(stock, module, query, key, value, attention_mask, **kwargs)

    return attend


def _spared(stock: Callable[..., Tensor | None]) -> Callable[..., Tensor | None]:
    """Make no mask that masks nothing: transformers leaves it out too, but not in a forward that is exported."""

    def make(*args: Any, **kwargs: Any) -> Tensor | None:
        full = kwargs.get("attention_mask") is None and kwargs.get("local_size") is None
        if is_torchdynamo_exporting() and full and kwargs.get("allow_is_bidirectional_skip", False):
            return None
        return stock(*args, **kwargs)

    return make


def register() -> None:
    """Register our functions in transformers; doing it again changes nothing."""
    AttentionInterface.register("autoprune_sdpa", _watched(sdpa_attention_forward))
    AttentionMaskInterface.register("autoprune_sdpa", _spared(sdpa_mask))
    AttentionInterface.register("autoprune_eager", _watched(_eager))
    AttentionMaskInterface.register("autoprune_eager", _spared(eager_mask))


def configs_of(core: nn.Module) -> list[Any]:
    """Return the distinct configuration objects in a module tree."""
    found: dict[int, Any] = {}
    for module in core.modules():
        config = getattr(module, "config", None)
        if config is not None and hasattr(config, "_attn_implementation_internal"):
            found[id(config)] = config
    return list(found.values())


def claim(core: nn.Module) -> Callable[[], None]:
    """Switch a module tree to our attention functions and return what undoes it.

    A configuration object that two models share is switched once and switched back by the last of them.

    Raises:
        UnsupportedModelError: The model runs on an attention backend that cannot be watched.
    """
    configs = configs_of(core)
    for config in configs:
        name = plain_name(config._attn_implementation_internal or "eager")
        if name not in _BACKENDS:
            raise UnsupportedModelError(
                f"Attention scores cannot be read from the attention backend {name!r}.",
                f"Load the model with attn_implementation= one of {', '.join(_BACKENDS)}.",
            )
    for config in configs:
        name = plain_name(config._attn_implementation_internal or "eager")
        _, count = _claims.get(id(config), (config, 0))
        _claims[id(config)] = (config, count + 1)
        config._attn_implementation_internal = _PREFIX + name

    def release() -> None:
        for config in configs:
            _, count = _claims.pop(id(config))
            if count > 1:
                _claims[id(config)] = (config, count - 1)
            else:
                config._attn_implementation_internal = plain_name(config._attn_implementation_internal)

    return release


def first_query(
    stock: Callable[..., Any],
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend with the first query alone; the output is repeated over the rows without copying.

    Args:
        stock: The attention function underneath.
        module: The attention module.
        query: (B, H, n, hd); only row 0 is used.
        key: (B, H, n, hd).
        value: (B, H, n, hd).
        attention_mask: Broadcastable to (B, H, n, n), or None.
        **kwargs: What else the attention module passes.

    Returns:
        (B, n, H, hd) with stride 0 over n, and None.
    """
    if attention_mask is not None:
        attention_mask = attention_mask[:, :, :1]
    if kwargs.get("position_bias") is not None:
        kwargs["position_bias"] = kwargs["position_bias"][:, :, :1]
    out = stock(module, query[:, :, :1], key, value, attention_mask, **kwargs)[0]
    return out.expand(-1, query.shape[2], -1, -1), None


def is_tracing() -> bool:
    """Whether a compiler or exporter records this forward, so that nothing may be read back."""
    return bool(torch.compiler.is_compiling() or torch._C._get_tracing_state())


register()

"""A second module tree over the same weights: dense and pruned side by side at no memory cost."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

from transformers import PreTrainedModel

from autoprune.pruning.attention import plain_name

_HOOK_DICTS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_backward_hooks",
    "_backward_pre_hooks",
)


def twin(model: PreTrainedModel) -> PreTrainedModel:
    """Return a second module tree that shares every parameter and buffer tensor with ``model``.

    The twin has its own configuration and no hooks, so a policy attached to one leaves the other dense.
    Training either trains both.
    """
    memo: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        memo[id(tensor)] = tensor
    for module in model.modules():
        for name in _HOOK_DICTS:
            hooks = module.__dict__.get(name)
            if hooks is not None:
                # Copying a hook would copy what it closes over, which may be a whole model.
                memo[id(hooks)] = OrderedDict()
    other: PreTrainedModel = copy.deepcopy(model, memo)
    for module in other.modules():
        config = getattr(module, "config", None)
        backend = getattr(config, "_attn_implementation_internal", None)
        if config is not None and isinstance(backend, str):
            config._attn_implementation_internal = plain_name(backend)
    return other

"""Proportional attention: a merged token counts in later attention by its size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.pruning.state import Run


def sized_attention(run: Run, inner: Callable[..., Any] | None) -> Callable[..., Any] | None:
    """Return an attention function that adds log(size) to the logits of each key, around ``inner``.

    Args:
        run: The forward pass; without sizes ``inner`` is returned as it is.
        inner: What would be called otherwise, or None for the stock function.
    """
    if run.sizes is None:
        return inner
    log_size = run.sizes.log()[:, None, None, :]

    def attend(
        stock: Callable[..., Any],
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        **kwargs: Any,
    ) -> Any:
        mask = add_sizes(log_size.to(query.dtype), attention_mask)
        if inner is not None:
            return inner(stock, module, query, key, value, mask, **kwargs)
        return stock(module, query, key, value, mask, **kwargs)

    return attend


def add_sizes(log_size: Tensor, mask: Tensor | None) -> Tensor:
    """Return a float mask with log sizes added.

    Args:
        log_size: (B, 1, 1, n); -inf at padding is fine.
        mask: (B, 1, q, n) bool or float, or None.
    """
    if mask is None:
        return log_size
    if mask.dtype == torch.bool:
        return torch.where(mask, log_size, torch.finfo(log_size.dtype).min)
    return mask + log_size.clamp(min=0)

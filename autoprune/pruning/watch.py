"""What is done with an attention call on a watched layer: scores, keys for merging, size bias."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.pruning.apply import score_context, will_reduce
from autoprune.pruning.context import Attention
from autoprune.pruning.plan import Plan, StagePlan
from autoprune.pruning.state import Run


def watcher(plan: Plan, run: Run, stages: list[StagePlan]) -> Callable[..., Any] | None:
    """Return what to call in place of the next attention function, or None when no stage needs it."""
    wanted = [stage for stage in stages if will_reduce(run, stage)]
    if not wanted:
        return None

    def attend(
        stock: Callable[..., Any],
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        **kwargs: Any,
    ) -> Any:
        result = stock(module, query, key, value, attention_mask, **kwargs)
        scaling = kwargs.get("scaling")
        attention = Attention(
            query=query,
            key=key,
            value=value,
            scaling=query.shape[-1] ** -0.5 if scaling is None else float(scaling),
            bias=_extra(attention_mask, kwargs.get("position_bias"), plan),
            causal=plan.family.masks == "causal",
        )
        with torch.no_grad():
            for stage in wanted:
                _look(plan, run, stage, attention)
        return result

    return attend


def _extra(mask: Tensor | None, bias: Tensor | None, plan: Plan) -> Tensor | None:
    """Return what the logits carry besides padding, which scorers handle by themselves."""
    if plan.family.masks == "window" and mask is not None:
        window = (
            torch.zeros_like(mask, dtype=torch.float32).masked_fill(~mask, -1e9) if mask.dtype == torch.bool else mask
        )
        return window if bias is None else window + bias
    return bias


def _look(plan: Plan, run: Run, stage: StagePlan, attention: Attention) -> None:
    if "keys" in stage.reducer.needs:
        run.keys = attention.key.mean(1)
    if "attention" not in stage.needs:
        return
    score = stage.scorer.score(score_context(plan, run, stage, None, attention)).float()
    if getattr(stage.scorer, "every_layer", False):
        run.accumulated[stage.index] = score
    run.scores[stage.index] = score

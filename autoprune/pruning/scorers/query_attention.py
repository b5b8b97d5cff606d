"""``query_attention``: how much chosen tokens look at each token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from autoprune._registry import SCORERS
from autoprune.errors import PolicyError
from autoprune.pruning.context import Attention, ScoreContext
from autoprune.pruning.logits import column_sums, probabilities
from autoprune.pruning.params import choice


@dataclass(frozen=True)
class QueryAttentionParams:
    """Parameters of ``query_attention``."""

    rows: str = choice(
        "last", ("last", "question", "protected"), "whose attention counts: last token, first segment, ..."
    )


def from_rows(attention: Attention, valid: Tensor | None, chosen: Tensor, most: int | None = None) -> Tensor:
    """Return the attention that each token receives from chosen queries, mean over them and over heads.

    Args:
        attention: Inputs of the attention.
        valid: (B, n) bool, or None.
        chosen: (B, n) bool, at least one true per row.
        most: Chosen queries in the row that has most of them, if that is known: then they alone are computed.

    Returns:
        (B, n) float32.
    """
    total = chosen.sum(1, keepdim=True).clamp(min=1) * attention.query.shape[1]
    if most is None:
        return column_sums(attention, valid, chosen) / total
    rows = chosen.int().sort(dim=1, descending=True, stable=True).indices[:, :most]
    weight = chosen.gather(1, rows).float()
    return torch.einsum("bhrj,br->bj", probabilities(attention, valid, rows), weight) / total


def last_row(attention: Attention, valid: Tensor | None) -> Tensor:
    """Return the attention of the last real query, mean over heads: (B, n) float32."""
    batch, _, n, _ = attention.query.shape
    if valid is None:
        rows = torch.full((batch, 1), n - 1, device=attention.query.device)
    else:
        rows = (valid * torch.arange(1, n + 1, device=valid.device)).argmax(1, keepdim=True)
    return probabilities(attention, valid, rows).mean((1, 2))


@SCORERS.register("query_attention")
class QueryAttention:
    """Attention of chosen rows. Sources: FastV (Chen et al., 2024) for the last token, PuMer (Cao et al., 2023)."""

    Params: ClassVar[type[QueryAttentionParams]] = QueryAttentionParams
    needs: frozenset[str] = frozenset({"attention"})
    summary: ClassVar[str] = "attention that chosen tokens (last token, question, protected ones) pay to each token"

    def __init__(self, params: QueryAttentionParams) -> None:
        self.params = params
        if params.rows == "question":
            self.needs = self.needs | {"types"}

    def score(self, ctx: ScoreContext) -> Tensor:
        """Return (B, n), not negative."""
        if ctx.attention is None:
            raise PolicyError("The scorer 'query_attention' needs an attention to look at.")
        if self.params.rows == "last":
            return last_row(ctx.attention, ctx.valid)
        if self.params.rows == "protected":
            return from_rows(ctx.attention, ctx.valid, ctx.protected, ctx.most_protected)
        if ctx.types is None:
            raise PolicyError("query_attention with rows 'question' needs token_type_ids.", "Pass them to the model.")
        question = ctx.types == 0
        return from_rows(ctx.attention, ctx.valid, question if ctx.valid is None else question & ctx.valid)

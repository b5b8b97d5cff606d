"""``cls_attention``: how much the first token looks at each token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from autoprune._registry import SCORERS
from autoprune.errors import PolicyError
from autoprune.pruning.context import Attention, ScoreContext
from autoprune.pruning.params import choice


@dataclass(frozen=True)
class ClsAttentionParams:
    """Parameters of ``cls_attention``."""

    value_weighted: bool = choice(False, (False, True), "multiply by the norm of the token's value vector")


def first_row(attention: Attention, valid: Tensor | None) -> Tensor:
    """Return the attention probabilities of the first token's query, by one query against the keys.

    Args:
        attention: Inputs of the attention, n queries and n keys.
        valid: (B, n) bool, or None.

    Returns:
        (B, H, n) float32, each row sums to 1 over real tokens.
    """
    logits = torch.matmul(attention.query[:, :, :1], attention.key.transpose(2, 3)).float() * attention.scaling
    if attention.bias is not None:
        logits = logits + attention.bias[:, :, :1]
    if valid is not None:
        logits = logits.masked_fill(~valid[:, None, None], -torch.inf)
    return logits.softmax(-1).squeeze(2)


@SCORERS.register("cls_attention")
class ClsAttention:
    """Attention of the first token, mean over heads.

    Sources: EViT (Liang et al., 2022); value weighting as in ATS (Fayyaz et al., 2022), in the form for several heads:
    scores of each head from its own values' norms, then summed over heads (here: the mean, which ranks the same). The
    division by the sum over tokens that ATS makes in its score is left out.
    """

    Params: ClassVar[type[ClsAttentionParams]] = ClsAttentionParams
    needs: ClassVar[frozenset[str]] = frozenset({"attention", "first_token"})
    summary: ClassVar[str] = "attention that the first token pays to each token (optionally times its value norm)"

    def __init__(self, params: ClsAttentionParams) -> None:
        self.params = params

    def score(self, ctx: ScoreContext) -> Tensor:
        """Return (B, n), not negative."""
        if ctx.attention is None:
            raise PolicyError("The scorer 'cls_attention' needs an attention to look at.")
        rows = first_row(ctx.attention, ctx.valid)
        if self.params.value_weighted:
            rows = rows * ctx.attention.value.float().norm(dim=-1)
        return rows.mean(1)

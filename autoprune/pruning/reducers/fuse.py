"""``fuse``: the tokens that leave become one extra token."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from autoprune._registry import REDUCERS
from autoprune.errors import PolicyError
from autoprune.pruning.context import Reduced, Tokens
from autoprune.pruning.params import NoParams
from autoprune.pruning.selectors import first, ranking, take


def fused_token(hidden: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean of tokens, (B, 1, d).

    Args:
        hidden: (B, n, d).
        weight: (B, n) float32, not negative, zero where a token has no part; a row of zeros gives zeros.
    """
    share = weight / weight.sum(1, keepdim=True).clamp(min=1e-30)
    return torch.bmm(share.unsqueeze(1).to(hidden.dtype), hidden)


def fuse_weights(score: Tensor, gone: Tensor, sizes: Tensor | None) -> Tensor:
    """Return (B, n) weights of the tokens that are ``gone`` (B, n) bool: their scores, or equal if all are zero."""
    part = gone.to(score.dtype)
    if sizes is not None:
        part = part * sizes
    weight = score.clamp(min=0) * part
    return torch.where(weight.sum(1, keepdim=True) > 0, weight, part)


@REDUCERS.register("fuse")
class Fuse:
    """Append one token, the score-weighted mean of those that leave. Source: EViT (Liang et al., 2022)."""

    Params: ClassVar[type[NoParams]] = NoParams
    needs: ClassVar[frozenset[str]] = frozenset({"free_order"})
    summary: ClassVar[str] = "the tokens that leave become one extra token, their score-weighted mean"
    merges: ClassVar[bool] = False
    uses_scores = True

    def __init__(self, params: NoParams) -> None:
        self.params = params

    def reduce(self, tokens: Tokens) -> Reduced:
        """Return ``counts - 1`` best tokens of each row in their old order, then the fused one.

        A row in which nothing leaves, or in which protected tokens fill the count, gets no fused token.
        """
        if tokens.score is None:
            raise PolicyError("The reducer 'fuse' needs scores.")
        fuses = [
            held < count < now for held, count, now in zip(tokens.guarded, tokens.counts, tokens.current, strict=True)
        ]
        kept = [count - one for count, one in zip(tokens.counts, fuses, strict=True)]
        order = ranking(tokens.score, tokens.protected, tokens.valid)
        index, valid = first(order, kept)
        sizes = None if tokens.sizes is None else take(tokens.sizes, index)
        if not any(fuses):
            return Reduced(take(tokens.hidden, index), index, valid, sizes)
        if tokens.valid is None and tokens.sizes is None and len(kept) == 1:
            return self._append_one(tokens, order[:, kept[0] :], index)
        return self._append(tokens, order, index, valid, fuses, kept)

    def _append_one(self, tokens: Tokens, gone: Tensor, index: Tensor) -> Reduced:
        """Do the same for a single unpadded row, on the tokens that leave alone."""
        if tokens.score is None:
            raise PolicyError("The reducer 'fuse' needs scores.")
        weight = take(tokens.score.float(), gone).clamp(min=0)
        weight = torch.where(weight.sum() > 0, weight, 1.0)
        hidden = torch.cat((take(tokens.hidden, index), fused_token(take(tokens.hidden, gone), weight)), 1)
        synthetic = torch.zeros(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
        synthetic[:, -1] = True
        return Reduced(hidden, torch.cat((index, gone[:, :1]), 1), None, None, synthetic)

    def _append(
        self, tokens: Tokens, order: Tensor, index: Tensor, valid: Tensor | None, fuses: list[bool], kept: list[int]
    ) -> Reduced:
        score, device = tokens.score, order.device
        if score is None:
            raise PolicyError("The reducer 'fuse' needs scores.")
        gone = _rest(order, kept, tokens.valid)
        weight = fuse_weights(score.float(), gone, tokens.sizes)
        hidden = torch.cat((take(tokens.hidden, index), fused_token(tokens.hidden, weight)), 1)
        # The best of those that leave lends the fused token its position and id.
        lender = order.gather(1, torch.tensor(kept, device=device).clamp(max=order.shape[1] - 1).unsqueeze(1))
        synthetic = torch.zeros(hidden.shape[:2], dtype=torch.bool, device=device)
        synthetic[:, -1] = True
        if valid is not None or not all(fuses):
            valid = torch.ones_like(index, dtype=torch.bool) if valid is None else valid
            valid = torch.cat((valid, torch.tensor(fuses, device=device).unsqueeze(1)), 1)
        sizes = None
        if tokens.sizes is not None:
            total = (tokens.sizes * gone).sum(1, keepdim=True)
            sizes = torch.cat((take(tokens.sizes, index), total), 1)
        return Reduced(hidden, torch.cat((index, lender), 1), valid, sizes, synthetic)


def _rest(order: Tensor, kept: list[int], valid: Tensor | None) -> Tensor:
    """Return (B, n) bool: real tokens past the first ``kept`` of ``order``."""
    limit = torch.tensor(kept, device=order.device).unsqueeze(1)
    late = torch.arange(order.shape[1], device=order.device) >= limit
    gone = torch.zeros_like(order, dtype=torch.bool).scatter(1, order, late.expand_as(order))
    return gone if valid is None else gone & valid

"""``received_attention``: how much all tokens look at each token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from autoprune._registry import SCORERS
from autoprune.errors import PolicyError
from autoprune.pruning.context import ScoreContext
from autoprune.pruning.logits import received, received_sampled
from autoprune.pruning.params import choice, whole


@dataclass(frozen=True)
class ReceivedAttentionParams:
    """Parameters of ``received_attention``."""

    method: str = choice("sampled", ("sampled", "exact"), "evenly spaced queries, or all of them")
    rows: int = whole(32, 1, 1024, "queries when sampled")


@SCORERS.register("received_attention")
class ReceivedAttention:
    """Column sums of the attention matrix.

    Sources: PoWER-BERT (Goyal et al., 2020), LTP (Kim et al., 2022). The diagonal is kept, as LTP does; PoWER-BERT sums
    over the other tokens alone (i != j).
    """

    Params: ClassVar[type[ReceivedAttentionParams]] = ReceivedAttentionParams
    needs: ClassVar[frozenset[str]] = frozenset({"attention"})
    summary: ClassVar[str] = "attention that all tokens pay to each token"

    def __init__(self, params: ReceivedAttentionParams) -> None:
        self.params = params

    def score(self, ctx: ScoreContext) -> Tensor:
        """Return (B, n); real tokens sum to 1."""
        if ctx.attention is None:
            raise PolicyError("The scorer 'received_attention' needs an attention to look at.")
        if self.params.method == "exact":
            return received(ctx.attention, ctx.valid)
        return received_sampled(ctx.attention, ctx.valid, self.params.rows)

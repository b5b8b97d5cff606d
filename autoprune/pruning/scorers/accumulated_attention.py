"""``accumulated_attention``: attention received, added up over all layers so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from autoprune._registry import SCORERS
from autoprune.errors import PolicyError
from autoprune.pruning.context import ScoreContext
from autoprune.pruning.logits import received, received_sampled
from autoprune.pruning.params import choice, number, whole
from autoprune.pruning.scorers.cls_attention import first_row


@dataclass(frozen=True)
class AccumulatedAttentionParams:
    """Parameters of ``accumulated_attention``."""

    source: str = choice("sampled", ("sampled", "received", "cls"), "which rows of each layer's attention are added")
    rows: int = whole(32, 1, 1024, "queries per layer when sampled")
    decay: float = number(1.0, 0.0, 1.0, "factor on the sum so far at each layer")


@SCORERS.register("accumulated_attention")
class AccumulatedAttention:
    """Running sum over layers.

    Sources: SpAtten (Wang et al., 2021); with ``cls`` and decay, Evo-ViT (Xu et al., 2022).
    """

    Params: ClassVar[type[AccumulatedAttentionParams]] = AccumulatedAttentionParams
    needs: frozenset[str] = frozenset({"attention"})
    summary: ClassVar[str] = "attention received, added up over all layers so far"
    every_layer = True

    def __init__(self, params: AccumulatedAttentionParams) -> None:
        self.params = params
        if params.source == "cls":
            self.needs = self.needs | {"first_token"}

    def score(self, ctx: ScoreContext) -> Tensor:
        """Return (B, n), the sum up to this layer."""
        if ctx.attention is None:
            raise PolicyError("The scorer 'accumulated_attention' needs an attention to look at.")
        if self.params.source == "cls":
            now = first_row(ctx.attention, ctx.valid).mean(1)
        elif self.params.source == "received":
            now = received(ctx.attention, ctx.valid)
        else:
            now = received_sampled(ctx.attention, ctx.valid, self.params.rows)
        return now if ctx.accumulated is None else self.params.decay * ctx.accumulated + now

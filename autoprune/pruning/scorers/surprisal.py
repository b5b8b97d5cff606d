"""``surprisal``: self-information of the token under corpus counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from autoprune._registry import SCORERS
from autoprune.errors import PolicyError
from autoprune.pruning.context import ScoreContext
from autoprune.pruning.params import table


@dataclass(frozen=True)
class SurprisalParams:
    """Parameters of ``surprisal``."""

    table: str = table("digest of a table with 'count', as count_ids makes it")


def self_information(ids: Tensor, count: Tensor) -> Tensor:
    """Return -log p of each token with add-one smoothing, in nats.

    Args:
        ids: (B, n) int64.
        count: (V,) float32, not negative.

    Returns:
        (B, n) float32, not negative.
    """
    information = (count.sum() + count.shape[0]).log() - count.log1p()
    return information.index_select(0, ids.reshape(-1)).view(ids.shape)


@SCORERS.register("surprisal")
class Surprisal:
    """Unigram self-information. Source: Selective Context (Li et al., 2023), with a unigram model."""

    Params: ClassVar[type[SurprisalParams]] = SurprisalParams
    needs: ClassVar[frozenset[str]] = frozenset({"ids", "tables"})
    summary: ClassVar[str] = "self-information of the token under corpus counts"
    table_columns: ClassVar[tuple[str, ...]] = ("count",)

    def __init__(self, params: SurprisalParams) -> None:
        self.params = params

    def score(self, ctx: ScoreContext) -> Tensor:
        """Return (B, n) in nats."""
        if ctx.ids is None or ctx.tables is None:
            raise PolicyError("The scorer 'surprisal' needs token ids and its table.")
        return self_information(ctx.ids, ctx.tables[self.params.table]["count"])

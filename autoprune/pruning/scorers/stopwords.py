"""``stopwords``: function words leave first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from autoprune._registry import SCORERS
from autoprune.errors import PolicyError
from autoprune.pruning.context import ScoreContext
from autoprune.pruning.params import table


@dataclass(frozen=True)
class StopwordsParams:
    """Parameters of ``stopwords``."""

    table: str = table("digest of a table with 'stopword', as stopword_table makes it")


def content_scores(ids: Tensor, stopword: Tensor) -> Tensor:
    """Return 0 at stop words and 1 elsewhere, (B, n) float32.

    Args:
        ids: (B, n) int64.
        stopword: (V,) float32, 1 at stop words.
    """
    return 1 - stopword.index_select(0, ids.reshape(-1)).view(ids.shape)


@SCORERS.register("stopwords")
class Stopwords:
    """Stop words leave first, later ones before earlier ones. Source: classical information retrieval (Luhn, 1958)."""

    Params: ClassVar[type[StopwordsParams]] = StopwordsParams
    needs: ClassVar[frozenset[str]] = frozenset({"ids", "tables"})
    summary: ClassVar[str] = "stop words leave first; the list is given or derived from corpus counts"
    table_columns: ClassVar[tuple[str, ...]] = ("stopword",)

    def __init__(self, params: StopwordsParams) -> None:
        self.params = params

    def score(self, ctx: ScoreContext) -> Tensor:
        """Return (B, n), 0 or 1."""
        if ctx.ids is None or ctx.tables is None:
            raise PolicyError("The scorer 'stopwords' needs token ids and its table.")
        return content_scores(ctx.ids, ctx.tables[self.params.table]["stopword"])

"""``lexicon``: a per-token-id importance table, learned offline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from autoprune._registry import SCORERS
from autoprune.errors import PolicyError
from autoprune.pruning.context import ScoreContext
from autoprune.pruning.params import table


@dataclass(frozen=True)
class LexiconParams:
    """Parameters of ``lexicon``."""

    table: str = table("digest of a table with 'importance', as build_lexicon makes it")


def look_up(ids: Tensor, importance: Tensor) -> Tensor:
    """Return each token's importance.

    Args:
        ids: (B, n) int64.
        importance: (V,) float32, not negative.

    Returns:
        (B, n) float32.
    """
    return importance.index_select(0, ids.reshape(-1)).view(ids.shape)


@SCORERS.register("lexicon")
class Lexicon:
    """Importance of the token id, learned offline.

    Source: this project; labels as AdapLeR (Modarressi et al., 2022).
    """

    Params: ClassVar[type[LexiconParams]] = LexiconParams
    needs: ClassVar[frozenset[str]] = frozenset({"ids", "tables"})
    summary: ClassVar[str] = "importance of each token id, learned offline on the task's texts"
    table_columns: ClassVar[tuple[str, ...]] = ("importance",)

    def __init__(self, params: LexiconParams) -> None:
        self.params = params

    def score(self, ctx: ScoreContext) -> Tensor:
        """Return (B, n), the table's values at the ids."""
        if ctx.ids is None or ctx.tables is None:
            raise PolicyError("The scorer 'lexicon' needs token ids and its table.")
        return look_up(ctx.ids, ctx.tables[self.params.table]["importance"])

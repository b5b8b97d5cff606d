"""``frequency``: rare or frequent tokens leave first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from autoprune._registry import SCORERS
from autoprune.errors import PolicyError
from autoprune.pruning.context import ScoreContext
from autoprune.pruning.params import choice, table


@dataclass(frozen=True)
class FrequencyParams:
    """Parameters of ``frequency``."""

    table: str = table("digest of a table with 'count', as count_ids makes it")
    remove: str = choice("low", ("low", "high"), "which tokens leave first: rare or frequent ones")


def frequency_scores(ids: Tensor, count: Tensor, remove: str) -> Tensor:
    """Return the log of the corpus count, or how far it stays below the largest.

    Args:
        ids: (B, n) int64.
        count: (V,) float32, not negative.
        remove: ``low`` or ``high``.

    Returns:
        (B, n) float32, not negative.
    """
    log = count.log1p()
    value = log if remove == "low" else log.max() - log
    return value.index_select(0, ids.reshape(-1)).view(ids.shape)


@SCORERS.register("frequency")
class Frequency:
    """Log corpus count of the token. Source: classical information retrieval (Luhn, 1958)."""

    Params: ClassVar[type[FrequencyParams]] = FrequencyParams
    needs: ClassVar[frozenset[str]] = frozenset({"ids", "tables"})
    summary: ClassVar[str] = "corpus frequency: rare (or frequent) tokens leave first"
    table_columns: ClassVar[tuple[str, ...]] = ("count",)

    def __init__(self, params: FrequencyParams) -> None:
        self.params = params

    def score(self, ctx: ScoreContext) -> Tensor:
        """Return (B, n), not negative."""
        if ctx.ids is None or ctx.tables is None:
            raise PolicyError("The scorer 'frequency' needs token ids and its table.")
        return frequency_scores(ctx.ids, ctx.tables[self.params.table]["count"], self.params.remove)

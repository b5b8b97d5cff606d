"""``drop``: the tokens that leave are gone."""

from __future__ import annotations

from typing import ClassVar

from autoprune._registry import REDUCERS
from autoprune.errors import PolicyError
from autoprune.pruning.context import Reduced, Tokens
from autoprune.pruning.params import NoParams
from autoprune.pruning.selectors import first, ranking, take


@REDUCERS.register("drop")
class Drop:
    """Keep the best tokens, forget the rest. Source: PoWER-BERT (Goyal et al., 2020)."""

    Params: ClassVar[type[NoParams]] = NoParams
    needs: ClassVar[frozenset[str]] = frozenset()
    summary: ClassVar[str] = "the tokens that leave are removed"
    merges: ClassVar[bool] = False
    uses_scores = True

    def __init__(self, params: NoParams) -> None:
        self.params = params

    def reduce(self, tokens: Tokens) -> Reduced:
        """Return the ``counts`` best tokens of each row in their old order."""
        if tokens.score is None:
            raise PolicyError("The reducer 'drop' needs scores.")
        order = ranking(tokens.score, tokens.protected, tokens.valid)
        index, valid = first(order, tokens.counts, pad_left=tokens.pad_left)
        sizes = None if tokens.sizes is None else take(tokens.sizes, index)
        return Reduced(take(tokens.hidden, index), index, valid, sizes)

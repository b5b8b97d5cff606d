"""``saliency``: gradient of the prediction, computed at run time by one backward pass."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from autoprune._registry import SCORERS
from autoprune.errors import PolicyError
from autoprune.pruning.context import ScoreContext
from autoprune.pruning.params import NoParams


@SCORERS.register("saliency")
class Saliency:
    """Norm of gradient times state at the first layer.

    Source: AdapLeR's labels (Modarressi et al., 2022), not distilled.

    It runs a dense forward and a backward before the pruned forward, so it never makes a model faster: it shows what a
    learned predictor could reach.
    """

    Params: ClassVar[type[NoParams]] = NoParams
    needs: ClassVar[frozenset[str]] = frozenset({"saliency"})
    summary: ClassVar[str] = "gradient times state, by a backward pass at run time (slower than dense; an upper bound)"

    def __init__(self, params: NoParams) -> None:
        self.params = params

    def score(self, ctx: ScoreContext) -> Tensor:
        """Return (B, n), not negative."""
        if ctx.saliency is None:
            raise PolicyError("The scorer 'saliency' found no gradient.")
        return ctx.saliency

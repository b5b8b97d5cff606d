"""What a scorer and a reducer are handed, and what they hand back: plain tensors, no model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor


@dataclass
class Attention:
    """Inputs of one attention call.

    Attributes:
        query: (B, H, n, hd), rotary embedding already applied.
        key: (B, G, n, hd); G divides H (grouped queries).
        value: (B, G, n, hd).
        scaling: Factor on the logits.
        bias: What is added to the logits, broadcastable to (B, H, n, n), or None (relative positions).
        causal: Whether a query sees only keys at or before it.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    scaling: float
    bias: Tensor | None = None
    causal: bool = False

    def __post_init__(self) -> None:
        groups = self.query.shape[1] // self.key.shape[1]
        if groups > 1:
            self.key = self.key.repeat_interleave(groups, 1)
            self.value = self.value.repeat_interleave(groups, 1)


@dataclass
class ScoreContext:
    """What a scorer may look at; what its ``needs`` does not name may be None.

    Attributes:
        positions: (B, n) int64, each token's place among the real tokens of the original input.
        length: Length of the original input, padding included.
        lengths: Real tokens per row of the original input.
        valid: (B, n) bool, false at padding; None when nothing is padded.
        protected: (B, n) bool, tokens that never leave.
        seed_stage: Index of the stage, so that two random stages differ.
        ids: (B, n) int64 token ids.
        types: (B, n) int64 segment ids, or None.
        hidden: (B, n, d) hidden states.
        attention: Inputs of the attention that scores are read from.
        accumulated: (B, n) running score of an ``every_layer`` scorer, or None at its first layer.
        saliency: (B, n) gradient saliency, or None.
        tables: Table digest to tensors.
        most_protected: Protected tokens in the row that has most of them, or None where that cannot be read.
    """

    positions: Tensor
    length: int
    lengths: list[int]
    valid: Tensor | None
    protected: Tensor
    seed_stage: int = 0
    ids: Tensor | None = None
    types: Tensor | None = None
    hidden: Tensor | None = None
    attention: Attention | None = None
    accumulated: Tensor | None = None
    saliency: Tensor | None = None
    tables: Mapping[str, dict[str, Tensor]] | None = None
    most_protected: int | None = None

    def real_lengths(self) -> Tensor:
        """Return the real tokens per row of the original input, (B, 1) float32."""
        return torch.tensor(self.lengths, dtype=torch.float32, device=self.positions.device).unsqueeze(1)


class Scorer(Protocol):
    """Says how much each token matters: high stays. Scores are finite and not negative."""

    Params: ClassVar[type[Any]]
    needs: ClassVar[frozenset[str]]
    summary: ClassVar[str]

    def __init__(self, params: Any) -> None: ...

    def score(self, ctx: ScoreContext) -> Tensor:
        """Return (B, n) float32; values at padding are ignored."""
        ...


@dataclass
class Tokens:
    """The tokens that a reducer works on.

    Attributes:
        hidden: (B, n, d).
        score: (B, n) float32, or None if the reducer said that it uses none.
        protected: (B, n) bool.
        valid: (B, n) bool, or None when nothing is padded.
        current: Real tokens per row now.
        counts: Real tokens per row wanted.
        guarded: Protected tokens per row.
        sizes: (B, n) float32, how many original tokens each stands for, or None: one each.
        keys: (B, n, hd) mean attention keys, or None.
        pad_left: Whether padding goes to the left (decoders).
    """

    hidden: Tensor
    score: Tensor | None
    protected: Tensor
    valid: Tensor | None
    current: list[int]
    counts: list[int]
    guarded: list[int]
    sizes: Tensor | None = None
    keys: Tensor | None = None
    pad_left: bool = False


@dataclass
class Reduced:
    """What a reducer leaves.

    Attributes:
        hidden: (B, k, d).
        index: (B, k) int64, the old token that each new one stands for (any value at padding).
        valid: (B, k) bool, or None when no row is shorter than another.
        sizes: (B, k) float32, or None.
        synthetic: (B, k) bool, rows that are no token of the input (fused), or None.
        owner: (B, n) int64, new index of each old token, -1 where it was dropped; None: it follows from ``index``.
    """

    hidden: Tensor
    index: Tensor
    valid: Tensor | None
    sizes: Tensor | None = None
    synthetic: Tensor | None = None
    owner: Tensor | None = None


class Reducer(Protocol):
    """Says what happens to the tokens that leave."""

    Params: ClassVar[type[Any]]
    needs: ClassVar[frozenset[str]]
    summary: ClassVar[str]
    merges: ClassVar[bool]
    uses_scores: bool

    def __init__(self, params: Any) -> None: ...

    def reduce(self, tokens: Tokens) -> Reduced:
        """Return the tokens that stay, ``tokens.counts`` per row."""
        ...


ScoreFunction = Callable[..., Tensor]

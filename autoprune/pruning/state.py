"""What one forward pass knows while it runs. Each thread and each nested forward has its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Saved = tuple[Tensor, Tensor, Tensor | None, Tensor | None]  # states, positions, valid, synthetic


@dataclass
class StageTrace:
    """What a stage did.

    Attributes:
        stage: Index of the stage in the policy.
        layer: Where it acted, -1 at the input.
        kept: Original positions that are left, per row, ascending; a fused token is not listed.
        tokens: Tokens that are left per row, the fused one included.
        scores: (B, n) scores before the stage, or None.
        before: Original positions before the stage, per row.
    """

    stage: int
    layer: int
    kept: list[list[int]]
    tokens: list[int]
    scores: Tensor | None
    before: list[list[int]]


@dataclass
class StageScores:
    """What a stage's scorer said, whether or not a token left.

    Attributes:
        stage: Index of the stage in the policy.
        scores: (B, n) float32 of the tokens before the stage; values at padding mean nothing.
        valid: (B, n) bool, false at padding; None when nothing is padded.
        protected: (B, n) bool.
    """

    stage: int
    scores: Tensor
    valid: Tensor | None
    protected: Tensor


@dataclass
class Trace:
    """What happened in the last forward pass under ``Handle.record``.

    Attributes:
        length: Length of the input, padding included.
        scored: One entry per stage that was scored.
        guarded: Protected tokens per row.
        stages: One entry per stage that acted.
        layer_lengths: Rows of the hidden states that entered each layer.
    """

    length: int = 0
    scored: list[StageScores] = field(default_factory=list)
    guarded: list[int] = field(default_factory=list)
    stages: list[StageTrace] = field(default_factory=list)
    layer_lengths: list[int] = field(default_factory=list)


class Run:
    """State of one forward pass.

    Attributes:
        owner: The engine that the pass belongs to.
        parent: The pass that this one runs inside, if any.
        length: Length of the original input, padding included; 0 until known.
        lengths: Real tokens per row of the original input.
        guarded: Protected tokens per row.
        current: Real tokens per row now.
        positions: (B, n) int64, original position of each token now.
        start: (B, 1) first real position of each row, or None when nothing is padded.
        valid: (B, n) bool, false at padding; None when nothing is padded.
        protected: (B, n) bool.
        ids: (B, n) token ids now, or None.
        types: (B, n) segment ids now, or None.
        sizes: (B, n) how many original tokens each stands for, or None.
        synthetic: (B, n) bool, tokens that are no token of the input, or None.
        scores: Pending scores by stage.
        accumulated: Running scores by stage.
        keys: Mean attention keys (B, n, hd) for merging, or None.
        changed: Whether tokens have left since the model made its masks.
        watch: What to call in place of the next attention function, or None.
        first: Whether the layer that runs now computes the first token alone.
        inside: Whether the policy acts inside the layer that runs now, so that its arguments alone do not settle
            what it returns.
        tables: Tables by digest, on the device of the ids.
        past: Tokens that the cache held before this pass, by layer 0's count.
    """

    def __init__(self, owner: object, parent: Run | None) -> None:
        self.owner = owner
        self.parent = parent
        self.length = 0
        self.lengths: list[int] = []
        self.guarded: list[int] = []
        self.current: list[int] = []
        self.positions: Tensor = _EMPTY
        self.start: Tensor | None = None
        self.valid: Tensor | None = None
        self.protected: Tensor = _EMPTY
        self.ids: Tensor | None = None
        self.types: Tensor | None = None
        self.sizes: Tensor | None = None
        self.synthetic: Tensor | None = None
        self.scores: dict[int, Tensor] = {}
        self.accumulated: dict[int, Tensor] = {}
        self.keys: Tensor | None = None
        self.saliency: Tensor | None = None
        self.changed = False
        self.watch: Callable[..., Any] | None = None
        self.first = False
        self.inside = False
        self.rows = 0
        self.calls = 0
        self.masks: dict[Any, Any] = {}
        self.saved: list[Saved] = []
        self.lost: list[tuple[Tensor, Tensor, Tensor]] = []
        self.sources: Tensor | None = None
        self.prefix: Any = None
        self.step = False
        self.past = 0
        self.tables: Mapping[str, dict[str, Tensor]] = {}
        self.guessed = False
        self.shortened: dict[int, tuple[Tensor, Tensor | None]] = {}
        self.full: dict[str, Any] = {}
        self.trace: Trace | None = None


_EMPTY = torch.empty(0)
_RUN: ContextVar[Run | None] = ContextVar("autoprune_run", default=None)


class _Traced:
    """Holds the pass while a compiler records it, since dynamo cannot follow a ContextVar."""

    run: Run | None = None


_TRACED = _Traced()


def current_run() -> Run | None:
    """Return the innermost pass of this thread, or None outside attached models."""
    if torch.compiler.is_dynamo_compiling():
        return _TRACED.run
    return _RUN.get()


def enter(run: Run | None) -> None:
    """Make ``run`` the innermost pass of this thread."""
    if torch.compiler.is_dynamo_compiling():
        _TRACED.run = run
    else:
        _RUN.set(run)

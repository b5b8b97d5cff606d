"""``Curves``: what share of tokens a threshold or a mass leaves, found on the scores of calibration texts.

Every scorer of the space scored every place once, on the dense model. A policy is walked through those scores with
the selectors that the pruning engine runs itself, so that stages see what the ones before them left: the second
threshold on the same scores is not taken for an independent one. What the walk does not know: how removal changes
later scores, that a fused token has one, and that ``random`` draws anew for each place in a policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from autoprune.pruning.selectors import keep_counts, ranking, scored_counts
from autoprune.spaces.choices import label_of_stage

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.policy import Protect, PruningPolicy, Stage

Place = tuple[tuple[int, int], str]
"""Where a stage acts (``Stage.depth``) and the label of its scorer."""
_STEPS = 40
_DIGITS = 6  # significant digits of a threshold, decimals of a mass


@dataclass
class Left:
    """What is left of the calibration texts.

    Attributes:
        alive: (T, L) bool.
        counts: Tokens per text.
    """

    alive: Tensor
    counts: list[int]


class Curves:
    """Scores of calibration texts by place.

    Args:
        scores: By place (T, L) float32: T texts, padded to L.
        real: (T, L) bool, false at padding.
        held: (T, L) bool, tokens that never leave, a policy's own prefix left out.
        rows: Texts that run in one batch, consecutive ones; T is a multiple. The share of a batch is that of the
            text of which most is left, for the others are padded to it.
    """

    def __init__(self, scores: Mapping[Place, Tensor], real: Tensor, held: Tensor, rows: int = 1) -> None:
        self._scores = scores
        self._real, self._held, self._rows = real, held & real, rows
        self._lengths: list[int] = real.sum(1).tolist()
        self._rank = real.cumsum(1)
        self._widest = torch.tensor(self._lengths).view(-1, rows).amax(1)

    def shares(self, policy: PruningPolicy) -> list[float]:
        """Return the mean share of a text (or of a batch) that each stage leaves, rounding and protection included."""
        left, guarded, out = self._start(), self._guarded(policy.protect), []
        for stage in policy.stages:
            left = self._after(stage, left, guarded)
            out.append(self._share(left.counts))
        return out

    def settle(self, draft: PruningPolicy, keeps: Sequence[float]) -> PruningPolicy:
        """Return the policy whose thresholds and masses leave as much as they can, but at most these shares.

        Args:
            draft: Which selector each stage has; its value is not read.
            keeps: One share per stage, over 0 to 1; ``keep`` stages stay as they are.
        """
        left, guarded, stages = self._start(), self._guarded(draft.protect), []
        for stage, keep in zip(draft.stages, keeps, strict=True):
            settled = stage if stage.keep is not None else self._solved(stage, keep, left, guarded)
            left = self._after(settled, left, guarded)
            stages.append(settled)
        return replace(draft, stages=tuple(stages))

    def _start(self) -> Left:
        return Left(self._real, self._lengths)

    def _guarded(self, protect: Protect) -> Tensor:
        return (self._held | (self._rank <= protect.prefix)) & self._real

    def _share(self, counts: Sequence[int]) -> float:
        most = torch.tensor(counts).view(-1, self._rows).amax(1)
        return float((most / self._widest).mean())

    def _score(self, stage: Stage) -> Tensor | None:
        return self._scores.get((stage.depth, label_of_stage(stage)))

    def _counts(self, stage: Stage, left: Left, guarded: Tensor) -> list[int]:
        if stage.keep is not None:
            return keep_counts(stage, self._lengths, left.counts, guarded.sum(1).tolist())
        score = self._score(stage)
        if score is None:  # no stage of the space: it counts as keeping all, as in ``PruningPolicy.stage_counts``
            return left.counts
        return scored_counts(stage, score, guarded & left.alive, left.alive, left.counts)

    def _after(self, stage: Stage, left: Left, guarded: Tensor) -> Left:
        """Return what a stage leaves: the best tokens, whatever the reducer makes of the rest."""
        counts, score = self._counts(stage, left, guarded), self._score(stage)
        if counts == left.counts:
            return left
        if score is None:
            score = torch.zeros(self._real.shape)
        order = ranking(score, guarded & left.alive, left.alive)
        taken = torch.arange(order.shape[1]) < torch.tensor(counts).unsqueeze(1)
        return Left(torch.zeros_like(left.alive).scatter(1, order, taken), counts)

    def _solved(self, stage: Stage, keep: float, left: Left, guarded: Tensor) -> Stage:
        """Return the stage at the gentlest value that leaves at most the share ``keep``, by bisection."""
        gentle, harsh = self._range(stage, left)
        if self._share(self._counts(_at(stage, gentle), left, guarded)) <= keep:
            return _at(stage, gentle)
        for _ in range(_STEPS):
            middle = _rounded(stage, (gentle + harsh) / 2)
            if middle in (gentle, harsh):
                break
            if self._share(self._counts(_at(stage, middle), left, guarded)) <= keep:
                harsh = middle
            else:
                gentle = middle
        return _at(stage, harsh)

    def _range(self, stage: Stage, left: Left) -> tuple[float, float]:
        """Return the value that keeps (next to) all, and one that keeps protected tokens alone."""
        if stage.selector == "mass":
            return 1.0, 10.0**-_DIGITS
        score = self._score(stage)
        if score is None:
            return 0.0, 1.0
        share = score.clamp(min=0) * left.alive
        normal = share / (share.sum(1, keepdim=True) / left.alive.sum(1, keepdim=True)).clamp(min=1e-30)
        return 0.0, _rounded(stage, max(1.0, float(normal.max())) * 1.01)


def _at(stage: Stage, value: float) -> Stage:
    if stage.selector == "mass":
        return replace(stage, mass=value)
    return replace(stage, threshold=value)


def _rounded(stage: Stage, value: float) -> float:
    return round(value, _DIGITS) if stage.selector == "mass" else float(f"{value:.{_DIGITS}g}")

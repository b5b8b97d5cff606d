"""What a policy is expected to leave. Whoever predicts a policy's counts, cost or removal asks here.

``keep`` says it by itself; what a threshold or a mass leaves depends on the text, and is read off calibration
curves. A search without such selectors needs no curves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from autoprune.errors import PolicyError
from autoprune.policy import PruningPolicy

if TYPE_CHECKING:
    from autoprune.engine.landscape.curves import Curves

Keeps = tuple[float, ...]
"""Share of the input's tokens after each stage, over 0 to 1, not increasing."""


class Expected:
    """Turns policies into shares of tokens, and shares into thresholds and masses.

    Args:
        curves: What thresholds and masses leave; None: no policy has any, or they count as keeping all.
    """

    def __init__(self, curves: Curves | None = None) -> None:
        self._curves = curves
        self._known: dict[PruningPolicy, Keeps] = {}

    def keeps(self, policy: PruningPolicy) -> Keeps:
        """Return the share of the input that is expected to be left after each stage, bounds left out for ``keep``."""
        if self._curves is None or all(stage.keep is not None for stage in policy.stages):
            return _running_least([1.0 if stage.keep is None else stage.keep for stage in policy.stages])
        if policy not in self._known:
            self._known[policy] = _named(policy, self._curves.shares(policy))
        return self._known[policy]

    def counts(self, policy: PruningPolicy, n_tokens: int, n_protected: int) -> tuple[float, ...]:
        """Return the tokens expected after each stage, whole ones after ``keep``: what a cost table asks for.

        Args:
            policy: The policy.
            n_tokens: Tokens of the input.
            n_protected: How many of them never leave.
        """
        return counts_at(policy, self.keeps(policy), n_tokens, n_protected)

    def settle(self, draft: PruningPolicy, keeps: Sequence[float]) -> PruningPolicy:
        """Return a draft with its thresholds and masses solved.

        Args:
            draft: A shape's policy (see ``Shape.policy``).
            keeps: The share that each stage is to leave at most; the largest share that a value leaves is taken, which
                is smaller where scores tie.

        Raises:
            PolicyError: There are no curves to solve them from.
        """
        if all(stage.keep is not None for stage in draft.stages):
            return draft
        if self._curves is None:
            raise PolicyError("A threshold or a mass cannot be solved without calibration curves.")
        return self._curves.settle(draft, keeps)


def counts_at(policy: PruningPolicy, keeps: Sequence[float], n_tokens: int, n_protected: int) -> tuple[float, ...]:
    """Return the tokens after each stage if those that depend on scores leave these shares.

    Args:
        policy: The policy; ``keep`` stages speak for themselves, as in ``PruningPolicy.stage_counts``.
        keeps: One share per stage.
        n_tokens: Tokens of the input.
        n_protected: How many of them never leave.
    """
    counts, current = [], float(n_tokens)
    for stage, share in zip(policy.stages, keeps, strict=True):
        wanted = share * n_tokens if stage.keep is None else float(stage.target(n_tokens))
        current = min(current, max(float(n_protected), wanted))
        counts.append(current)
    return tuple(counts)


def _named(policy: PruningPolicy, shares: Sequence[float]) -> Keeps:
    """Return the shares, in which a ``keep`` stage says what it is called: rounding up is no part of that."""
    pairs = zip(policy.stages, shares, strict=True)
    return _running_least([share if stage.keep is None else stage.keep for stage, share in pairs])


def _running_least(shares: Sequence[float]) -> Keeps:
    least, out = 1.0, []
    for share in shares:
        least = min(least, share)
        out.append(least)
    return tuple(out)

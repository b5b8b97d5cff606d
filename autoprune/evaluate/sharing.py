"""Which layers do the same work under several policies, and how policies are divided so that it is done once."""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise, zip_longest

from autoprune.policy import PruningPolicy

_TOKENS = 100  # of an imagined text, by which the work of policies is compared


def shared_layers(one: PruningPolicy, other: PruningPolicy, n_layers: int) -> int:
    """Return how many first layers do the same under two policies (0 to ``n_layers - 1``).

    The last layer is never among them: where the policies agree up to it, they are one, or differ in it.

    Args:
        one: A policy.
        other: Another one.
        n_layers: Layers of the model (>= 1).
    """
    for mine, theirs in zip_longest(one.stages, other.stages):
        if mine != theirs or one.protect != other.protect:
            first = min(stage.depth[0] for stage in (mine, theirs) if stage is not None)
            return min(max(0, first), n_layers - 1)
    return n_layers - 1


def share_out(policies: Sequence[PruningPolicy], parts: int, n_layers: int) -> list[list[PruningPolicy]]:
    """Divide policies among workers: those that begin alike stand together, and the longest part is short.

    Args:
        policies: What is to be scored.
        parts: Workers (>= 1).
        n_layers: Layers of the model (>= 1).

    Returns:
        At most ``parts`` groups, none empty, each in the order in which neighbours share most.
    """
    ordered = sorted(policies, key=_place)
    alone = [_work(policy, 0, n_layers) for policy in ordered]
    behind = [_work(b, shared_layers(a, b, n_layers), n_layers) for a, b in pairwise(ordered)]
    least = bisect_left(range(sum(alone)), True, key=lambda load: len(_starts(alone, behind, load)) <= parts)
    starts = [*_starts(alone, behind, least), len(ordered)]
    return [ordered[start:stop] for start, stop in pairwise(starts)]


def _place(policy: PruningPolicy) -> tuple[str, list[tuple[float, int, str]]]:
    """Return a sort key by which a policy stands beside those that it has most layers in common with.

    It is the order of words: what happens at each place from the input on is a letter, nothing comes first.
    """
    stages = [(-float(s.depth[0]), -s.depth[1], json.dumps(s.to_dict(), sort_keys=True)) for s in policy.stages]
    return json.dumps(policy.protect.to_dict()), [*stages, (-math.inf, 0, "")]


def _work(policy: PruningPolicy, shared: int, n_layers: int) -> int:
    """Return the tokens that enter the layers from ``shared`` on."""
    return sum(policy.layer_counts(_TOKENS, n_layers, 0)[shared:])


def _starts(alone: Sequence[int], behind: Sequence[int], load: int) -> list[int]:
    """Return where groups begin when each is filled up to ``load``; one that is more by itself stands alone.

    Args:
        alone: Work of each policy at the head of a group.
        behind: Work of each policy but the first behind the one before it.
        load: The most work of a group.
    """
    starts: list[int] = []
    filled = 0
    for number, whole in enumerate(alone):
        more = behind[number - 1] if starts else whole
        if not starts or filled + more > load:
            starts.append(number)
            filled = whole
        else:
            filled += more
    return starts

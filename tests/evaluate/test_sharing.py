"""Which layers policies have in common, and how they are divided among workers: checked against enumeration."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprune.evaluate.sharing import share_out, shared_layers
from autoprune.policy import Protect, PruningPolicy, Stage

N_LAYERS = 6
CUT = Stage(2, "random", keep=0.5)
LATER = Stage(4, "random", keep=0.3)


@pytest.mark.parametrize(
    ("one", "other", "layers"),
    [
        (PruningPolicy(), PruningPolicy((CUT,)), 2),
        (PruningPolicy((CUT,)), PruningPolicy((CUT, LATER)), 4),
        (PruningPolicy((CUT,)), PruningPolicy((Stage(2, "random", keep=0.4),)), 2),
        (PruningPolicy((CUT,)), PruningPolicy((Stage(3, "norm", keep=0.5),)), 2),
        (PruningPolicy((CUT,)), PruningPolicy((Stage(2, "random", keep=0.5, where="after_attention"),)), 2),
        (PruningPolicy((CUT,)), PruningPolicy((Stage(2, "random", keep=0.5, params={"seed": 1}),)), 2),
        (PruningPolicy((CUT,)), PruningPolicy((Stage("input", "random", keep=0.5), CUT)), 0),
        (PruningPolicy((CUT,)), PruningPolicy((CUT,), Protect(prefix=3)), 2),
        (PruningPolicy((CUT,)), PruningPolicy((CUT,), last_layer="first_token"), 5),
        (PruningPolicy(), PruningPolicy((Stage(9, "random", keep=0.5),)), 5),
        (PruningPolicy(), PruningPolicy(), 5),
    ],
)
def test_layers_are_shared_up_to_the_first_difference(one, other, layers):
    assert shared_layers(one, other, N_LAYERS) == shared_layers(other, one, N_LAYERS) == layers


@st.composite
def policies(draw):
    places = sorted(draw(st.sets(st.integers(-1, N_LAYERS - 1), max_size=3)))
    keeps = sorted(draw(st.lists(st.sampled_from([0.2, 0.5, 0.8]), min_size=3, max_size=3)), reverse=True)
    stages = (Stage("input" if p < 0 else p, "random", keep=k) for p, k in zip(places, keeps, strict=False))
    return PruningPolicy(tuple(stages))


def work(group):
    """Tokens that enter the layers that run, of 100 at the input."""
    total = 0
    for before, policy in itertools.pairwise([None, *group]):
        shared = 0 if before is None else shared_layers(before, policy, N_LAYERS)
        total += sum(policy.layer_counts(100, N_LAYERS, 0)[shared:])
    return total


@settings(max_examples=60, deadline=None)
@given(st.lists(policies(), max_size=7, unique_by=PruningPolicy.digest), st.integers(1, 8))
def test_each_policy_goes_to_one_worker_and_none_works_longer_than_need_be(found, parts):
    groups = share_out(found, parts, N_LAYERS)
    assert sorted(p.digest() for group in groups for p in group) == sorted(p.digest() for p in found)
    assert len(groups) <= parts
    assert all(groups)
    if not found:
        return
    order = [policy for group in groups for policy in group]
    cuts = itertools.combinations(range(1, len(order)), min(parts, len(order)) - 1)
    best = min(max(work(order[a:b]) for a, b in itertools.pairwise([0, *cut, len(order)])) for cut in cuts)
    assert max(map(work, groups)) <= best


@settings(max_examples=60, deadline=None)
@given(st.lists(policies(), min_size=2, max_size=6, unique_by=PruningPolicy.digest))
def test_no_other_order_shares_more(found):
    (ordered,) = share_out(found, 1, N_LAYERS)

    def shared(order):
        return sum(shared_layers(a, b, N_LAYERS) for a, b in itertools.pairwise(order))

    assert shared(ordered) == max(map(shared, itertools.permutations(found)))

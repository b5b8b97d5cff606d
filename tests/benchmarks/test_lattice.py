"""The lattice of benchmarks/search: what is in it, and what the one encoder rounds to."""

import numpy as np
import pytest
from lattice import SPACE, Lattice, closed_form_count

from autoprune.engine.landscape.expected import Expected
from autoprune.engine.landscape.removal import removal_of
from autoprune.engine.profiling import profile_policies
from autoprune.policy import PruningPolicy, Stage
from autoprune.spaces.schema import load_space_file
from autoprune.spaces.space import Space

TABLES = {"lexicon": "sha256:" + "0" * 64}


@pytest.fixture(scope="module")
def lattice():
    return Lattice.read(TABLES)


def test_it_has_as_many_policies_as_can_be_counted_without_listing_them(lattice):
    assert len(lattice.policies) == closed_form_count(levels=6, cuts=3, places=5, inputs=2, with_input=2, without=3)
    assert 1000 <= len(lattice.policies) <= 1500
    assert len(lattice.index) == len(lattice.policies)


def test_the_profile_is_part_of_it(lattice):
    space = Space(load_space_file(str(SPACE)), lattice.n_layers)
    probes = [policy for group in profile_policies(space, TABLES).values() for _, policy in group]
    assert probes
    for policy in probes:
        shortcut = PruningPolicy(policy.stages, policy.protect, "first_token")  # the same logits, see recording.json
        assert shortcut.digest() in lattice.index


def test_every_policy_is_its_own_nearest(lattice):
    assert all(lattice.snap(policy).digest() == policy.digest() for policy in lattice.policies)


def test_nearest_is_the_least_squared_distance_of_log_keeps(lattice):
    rng = np.random.default_rng(0)
    vectors = {point.keeps for point in lattice.points}
    for _ in range(30):
        keeps = np.sort(rng.uniform(0.2, 1.0, 6))[::-1]
        found = lattice.points[lattice.index[lattice.nearest(keeps, "truncate", ("random", "fuse")).digest()]]

        def distance(vector, keeps=keeps):
            return sum((np.log(a) - np.log(b)) ** 2 for a, b in zip(vector, keeps, strict=True))

        assert distance(found.keeps) == pytest.approx(min(map(distance, vectors)))
        assert found.before in (None, "truncate")


def test_methods_that_are_not_there_become_the_nearest(lattice):
    inside = lattice.snap(PruningPolicy((Stage(2, "random", keep=0.5, reduce="fuse"),)))
    assert inside.describe() == "L2 random 0.50 > last layer first token"
    behind = lattice.snap(
        PruningPolicy((Stage("input", "truncate", keep=0.8), Stage(2, "random", keep=0.5, reduce="fuse")))
    )
    assert [stage.scorer for stage in behind.stages] == ["truncate", "cls_attention"]
    assert behind.stages[1].reduce == "fuse"
    valued = PruningPolicy((Stage(3, "cls_attention", keep=0.33, params={"value_weighted": True}),))
    assert lattice.snap(valued).stages[0] == Stage(3, "cls_attention", keep=0.35)


def test_removals_are_rounded_as_policies_are(lattice):
    rng = np.random.default_rng(1)
    for policy in rng.choice(np.asarray(lattice.policies, dtype=object), 20):
        exact = removal_of(policy, Expected().keeps(policy), 6)
        near = np.maximum.accumulate(exact + np.where(exact > 0, rng.uniform(-0.02, 0.02, 6), 0.0))
        np.testing.assert_allclose(lattice.snap_removal(near[None])[0], exact, atol=1e-12)

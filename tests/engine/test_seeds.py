import pytest

from autoprune.engine.seeds import SEEDS, control_params, seed_params
from autoprune.spaces.schema import load_space_file, parse_space, shipped
from autoprune.spaces.space import Space


@pytest.mark.parametrize("layers", [1, 2, 6, 12, 24])
@pytest.mark.parametrize("name", shipped())
def test_seeds_are_different_points_of_every_space(name, layers):
    space = Space(load_space_file(name), layers)
    distributions = space.distributions()
    found = seed_params(space)
    assert all(set(params) == set(distributions) for params in found)
    for params in found:
        for key, value in params.items():
            assert distributions[key]._contains(distributions[key].to_internal_repr(value)), key
    policies = [
        (space.shape(params).policy(1.0, {"lexicon": "sha256:0"}).digest(), params["share"]) for params in found
    ]
    assert len(set(policies)) == len(policies)
    assert found or (name == "decoder-prefill" and layers == 1)  # no layer may be pruned there


def test_the_quick_space_has_all_seeds_at_the_depths_they_name():
    space = Space(load_space_file("quick"), 6)
    found = [space.shape(params) for params in seed_params(space)]
    assert len(found) == len(SEEDS)
    assert [[stage.layer for stage in shape.stages] for shape in found] == [
        ["input"],
        ["input", 3],
        ["input", 2, 3],
        [1, 2, 3],
        [1],
        ["input"],
        ["input", 2],
        ["input", 2, 3],
    ]
    assert [stage.weight for stage in found[2].stages] == pytest.approx([0.5, 0.75, 1.0])


def test_a_space_without_truncation_has_no_control():
    quick = Space(load_space_file("quick"), 6)
    assert quick.shape(control_params(quick)[0]).stages[0].choice.scorer == "truncate"
    bare = parse_space("version: 1\nname: mine\nstages: {scorers: [random]}", "mine.yaml")
    assert control_params(Space(bare, 6)) == []

"""A point of a space and its shape say the same: nothing is lost on the way there and back."""

import math
from dataclasses import replace

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, IntDistribution

from autoprune.spaces.schema import load_space_file, parse_space, shipped
from autoprune.spaces.shape import Shape
from autoprune.spaces.space import Space

TABLES = {"lexicon": "sha256:00"}
LAYERS = (1, 2, 6, 12, 24)
SCALES = (0.0, 0.13, 1.0, 2.7, 6.0)
FAMILIES = """
version: 1
name: families
input: {scorers: [truncate, uniform], multiple: [1, 8], select: [mass, keep]}
stages:
  scorers: [cls_attention, random]
  reduce: [drop, merge, {reduce: merge, params: {metric: keys}}]
  where: [before, after_attention]
  multiple: [1, 4]
  select: [keep, threshold, mass]
  count: [1, 5]
  layers: [1, -2]
  schedule: [geometric, curved, linear, free]
last_layer: [full, first_token]
protect: {prefix: 2}
axes:
  - {axis: protect_prefix, values: [1, 5]}
share: [0.3, 0.9]
"""
SPACES = {
    **{(name, n): Space(load_space_file(name), n) for name in shipped() for n in LAYERS},
    **{("families", n): Space(parse_space(FAMILIES, "families"), n) for n in LAYERS},
}


def points(space):
    """Return a strategy for points of a space: parameter values inside their distributions, bounds included."""
    return st.fixed_dictionaries({name: values(one) for name, one in space.distributions().items()})


def values(distribution):
    if isinstance(distribution, CategoricalDistribution):
        return st.sampled_from(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return st.integers(distribution.low, distribution.high)
    bounds = st.sampled_from([distribution.low, distribution.high])
    return bounds | st.floats(distribution.low, distribution.high, allow_nan=False)


def inside(params, space):
    distributions = space.distributions()
    assert set(params) == set(distributions)
    for name, value in params.items():
        assert distributions[name]._contains(distributions[name].to_internal_repr(value)), (name, value)


@settings(max_examples=400, deadline=None)
@given(data=st.data(), key=st.sampled_from(sorted(SPACES)), share=st.floats(0.5, 1.0))
def test_a_shape_encoded_and_decoded_is_the_same_policy_at_any_scale(data, key, share):
    space = SPACES[key]
    shape = space.shape(data.draw(points(space)))
    params = space.encode(shape, share)
    assert params is not None
    inside(params, space)
    again = space.shape(params)
    for scale in SCALES:
        assert again.policy(scale, TABLES).digest() == shape.policy(scale, TABLES).digest()


@settings(max_examples=400, deadline=None)
@given(data=st.data(), key=st.sampled_from(sorted(SPACES)))
def test_the_encoding_is_canonical(data, key):
    space = SPACES[key]
    params = space.encode(space.shape(data.draw(points(space))), 0.8)
    again = space.encode(space.shape(params), 0.8)
    for name, value in params.items():
        assert again[name] == (pytest.approx(value, abs=1e-6) if isinstance(value, float) else value), name


def test_values_that_do_not_matter_do_not_change_the_encoding():
    space = SPACES["families", 12]
    dense = {"stages.count": 0, "input.scorer": "none"}
    idle = {"stages.first": 7, "stages.gap": 3, "stages.part.4": 2.0, "input.weight": 0.3, "stages.scorer": "random"}
    assert space.encode(space.shape({**dense, **idle}), 0.5) == space.encode(space.shape(dense), 0.5)


def test_single_stages_share_one_encoding_whatever_their_family():
    space = SPACES["families", 12]
    found = [
        space.encode(space.shape({"stages.count": 1, "stages.first": 4, "stages.schedule": name}), 0.9)
        for name in ("geometric", "curved", "linear", "free")
    ]
    assert found[1:] == found[:-1]


def test_a_reducer_that_never_asks_has_one_scorer():
    space = SPACES["families", 12]
    found = {
        name: space.shape({"stages.count": 2, "stages.scorer": name, "stages.reduce": "merge"}).policy(1.0, {}).digest()
        for name in ("cls_attention", "random")
    }
    assert found["cls_attention"] == found["random"]


def test_a_threshold_asks_its_scorer_whatever_happens_to_the_rest():
    space = SPACES["families", 12]
    chosen = {"stages.count": 2, "stages.reduce": "merge", "stages.select": "threshold"}
    found = {
        name: space.shape({**chosen, "stages.scorer": name}).policy(1.0, {}).digest()
        for name in ("cls_attention", "random")
    }
    assert found["cls_attention"] != found["random"]


def test_selectors_are_parameters_where_there_are_several():
    space = SPACES["families", 12]
    assert space.distributions()["input.select"].choices == ("mass", "keep")
    assert space.distributions()["stages.select"].choices == ("keep", "threshold", "mass")
    assert space.selectors() == {"keep", "threshold", "mass"}
    assert SPACES["quick", 12].selectors() == {"keep"}
    params = {"input.scorer": "truncate", "input.select": "mass", "stages.count": 2, "stages.select": "threshold"}
    assert [s.selector for s in space.shape(params).policy(1.0, {}).stages] == ["mass", "threshold", "threshold"]


def test_the_places_of_a_space_hold_every_stage_that_it_proposes():
    space = SPACES["families", 6]
    places = set(map(str, space.places()))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(50):
        for stage in space.shape(study.ask(space.distributions()).params).stages:
            assert str((stage.layer, stage.where, stage.choice)) in places


def test_free_takes_any_layers_and_any_division():
    space = SPACES["quick", 12]
    weights = (0.07, 0.11, 1.0)
    stages = tuple(space.stage(n, "random", w, "fuse") for n, w in zip((2, 3, 11), weights, strict=True))
    shape = Shape(stages, "full")
    again = space.shape(space.encode(shape, 0.7))
    assert [s.layer for s in again.stages] == [2, 3, 11]
    assert [s.weight for s in again.stages] == pytest.approx(weights, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(
    layers=st.sets(st.integers(1, 23), min_size=1, max_size=3),
    logs=st.tuples(st.floats(-3.9, 3.9), st.floats(-3.9, 3.9)),
    before=st.none() | st.floats(0.01, 0.99),
)
def test_free_loses_nothing_of_any_shape_it_takes(layers, logs, before):
    space = SPACES["quick", 24]
    parts = [1.0, *map(math.exp, logs)][: len(layers)]
    done = [sum(parts[: slot + 1]) / sum(parts) for slot in range(len(parts) - 1)] + [1.0]
    start = before or 0.0
    stages = [
        space.stage(n, "random", start + (1 - start) * w, "fuse") for n, w in zip(sorted(layers), done, strict=True)
    ]
    first = [] if before is None else [space.input_stage("truncate", before)]
    shape = Shape((*first, *stages), "full")
    again = space.shape(space.encode(shape, 0.7))
    assert [(s.layer, s.choice.label, s.reduce) for s in again.stages] == [
        (s.layer, s.choice.label, s.reduce) for s in shape.stages
    ]
    assert [s.weight for s in again.stages] == pytest.approx([s.weight for s in shape.stages], abs=1e-9)


def test_linear_keeps_fall_by_equal_steps():
    space = SPACES["families", 12]
    params = {"stages.count": 4, "stages.schedule": "linear", "stages.first": 2, "stages.gap": 2}
    keeps = [stage.keep for stage in space.shape(params).policy(1.5, {}).stages]
    last = math.exp(-1.5)
    assert keeps == pytest.approx([1 - (1 - last) * k / 4 for k in (1, 2, 3, 4)], abs=1e-4)


@pytest.mark.parametrize(
    ("family", "keeps"),
    [("geometric", [0.8, 0.64, 0.512]), ("curved", [0.9, 0.9 * 0.81, 0.9 * 0.81 * 0.81**2])],
)
def test_evenly_spaced_families(family, keeps):
    space = SPACES["families", 12]
    curve = 2 * math.log(2)  # each part twice the one before
    params = {"stages.count": 3, "stages.schedule": family, "stages.gap": 3, "stages.curve": curve, "stages.first": 1}
    shape = space.shape(params)
    assert [stage.layer for stage in shape.stages] == [1, 4, 7]
    found = [stage.keep for stage in shape.policy(-math.log(keeps[-1]), {}).stages]
    assert found == pytest.approx(keeps, abs=1e-4)


def test_a_schedule_that_runs_past_the_end_is_squeezed_until_it_fits():
    space = SPACES["families", 6]  # layers 1 to 4
    for family in ("geometric", "free"):
        params = {"stages.count": 3, "stages.schedule": family, "stages.first": 4, "stages.gap": 3, "stages.gap.2": 3}
        assert [stage.layer for stage in space.shape(params).stages] == [2, 3, 4]


def test_what_a_space_cannot_express_has_no_encoding():
    space = SPACES["quick", 6]
    one, two = space.stage(2, "random", 0.5, "fuse"), space.stage(4, "random", 1.0, "fuse")
    assert space.encode(Shape((one, two), "full"), 1.0) is not None
    refused = [
        Shape((two, replace(one, weight=1.0)), "full"),
        Shape((one, replace(two, layer=6)), "full"),
        Shape((replace(one, layer=0), two), "full"),
        Shape((one, replace(two, reduce="drop")), "full"),
        Shape((replace(one, reduce="merge"), replace(two, reduce="merge")), "full"),
        Shape((one, replace(two, weight=0.9)), "full"),
        Shape((replace(one, weight=0.001), two), "full"),
        Shape((one, two), "full", linear=True),
        Shape((replace(one, layer="input"), two), "full"),
        Shape((replace(one, select="mass"), replace(two, select="mass")), "full"),
        Shape((replace(space.input_stage("truncate"), select="threshold"),), "full"),
        Shape(tuple(space.stage(k, "random", k / 4, "fuse") for k in (1, 2, 3, 4)), "full"),
    ]
    assert [space.encode(shape, 1.0) for shape in refused] == [None] * len(refused)


def test_the_share_is_moved_into_the_range():
    space = SPACES["families", 6]
    shape = space.shape({})
    assert [space.encode(shape, share)["share"] for share in (0.1, 0.5, 1.0)] == [0.3, 0.5, 0.9]


def test_nothing_leaves_after_the_last_attention_beside_the_shortcut():
    space = Space(parse_space(FAMILIES.replace("layers: [1, -2]", "layers: [1, -1]"), "families"), 6)
    params = {"stages.count": 1, "stages.first": 5, "last_layer": "first_token"}
    assert space.shape({**params, "stages.where": "after_attention"}).stages[-1].layer == 4
    assert space.shape({**params, "stages.where": "before"}).stages[-1].layer == 5


def test_only_what_can_vary_is_a_parameter():
    assert set(SPACES["quick", 6].distributions()) == {
        "last_layer", "share", "input.scorer", "input.weight", "stages.scorer", "stages.reduce", "stages.count",
        "stages.first", "stages.gap.2", "stages.gap.3", "stages.part.2", "stages.part.3",
    }  # fmt: skip
    assert set(SPACES["quick", 1].distributions()) == {"last_layer", "share", "input.scorer"}

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprune.policy import PruningPolicy
from autoprune.spaces.schema import load_space_file
from autoprune.spaces.space import Space

TABLES = {"lexicon": "sha256:00"}


def draw(space, seed):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return study.ask(space.distributions()).params


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), layers=st.sampled_from([1, 2, 6, 12, 24]), scale=st.floats(0, 6))
def test_every_point_is_a_valid_policy(seed, layers, scale):
    space = Space(load_space_file("quick"), layers)
    policy = space.shape(draw(space, seed)).policy(scale, TABLES)
    assert PruningPolicy.from_dict(policy.to_dict()) == policy
    assert all(stage.layer == "input" or 1 <= stage.layer < layers for stage in policy.stages)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), low=st.floats(0, 3), more=st.floats(0, 3))
def test_a_larger_scale_keeps_no_more(seed, low, more):
    space = Space(load_space_file("quick"), 6)
    shape = space.shape(draw(space, seed))
    gentle, strong = shape.policy(low, TABLES), shape.policy(low + more, TABLES)
    for weak, hard in zip(gentle.stages, strong.stages, strict=True):
        assert hard.keep <= weak.keep


def test_scale_zero_removes_nothing():
    space = Space(load_space_file("quick"), 6)
    for seed in range(10):
        policy = space.shape(draw(space, seed)).policy(0.0, TABLES)
        assert all(stage.keep == 1.0 for stage in policy.stages)


def test_dense_sets_every_parameter_and_is_dense():
    space = Space(load_space_file("quick"), 6)
    params = space.dense_params()
    assert set(params) == set(space.distributions())
    for name, distribution in space.distributions().items():
        assert distribution._contains(distribution.to_internal_repr(params[name]))
    assert space.shape(params).policy(0.0, TABLES).is_dense


def test_after_dense_the_sampler_models_all_parameters():
    space = Space(load_space_file("quick"), 6)
    sampler = optuna.samplers.TPESampler(multivariate=True, n_startup_trials=1, seed=0)
    study = optuna.create_study(sampler=sampler, directions=["minimize", "maximize"])
    study.enqueue_trial(space.dense_params())
    study.tell(study.ask(space.distributions()), [1.0, 1.0])
    study.tell(study.ask(space.distributions()), [0.5, 0.9])
    trial = study.ask(space.distributions())
    assert set(trial.relative_params) == set(space.distributions())


def test_weights_end_at_one():
    space = Space(load_space_file("quick"), 12)
    for seed in range(40):
        stages = space.shape(draw(space, seed)).stages
        if stages:
            assert stages[-1].weight == pytest.approx(1.0)
            assert [s.weight for s in stages] == sorted(s.weight for s in stages)

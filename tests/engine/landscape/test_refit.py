"""What is learned of harm from whole policies: how steps add up, the curves themselves; and what is left alone."""

import numpy as np
import pytest

from autoprune.engine.landscape.harm import HarmCurve, HarmModel
from autoprune.engine.landscape.refit import refit
from autoprune.engine.landscape.removal import Method

DEPTH = 8
TRUE = HarmModel(
    {
        "in": HarmCurve((0,), (-1.5,), 2.0),
        "at": HarmCurve(tuple(range(1, DEPTH)), (-0.5, -2.5, -0.6, -1.5, -2.0, -2.2, -3.5), 2.5),
    },
    exponent=0.5,
    behind=0.6,
)
OFF = tuple(np.random.default_rng(5).normal(TRUE.curves["at"].log_scale, 0.2).tolist())
PROFILE = HarmModel({"in": TRUE.curves["in"], "at": HarmCurve(tuple(range(1, DEPTH)), OFF, 2.4)})


def policies(count, seed):
    rng = np.random.default_rng(seed)
    methods = [(Method("in", "at"), Method("", "at"), Method("in", ""))[i] for i in rng.integers(0, 3, count)]
    removal = np.zeros((count, DEPTH))
    for row, method in zip(removal, methods):
        if method.before:
            row[:] = rng.uniform(0.2, 0.9)
        if method.inside:
            for layer in rng.choice(np.arange(1, DEPTH), 2, replace=False):
                row[layer:] = np.maximum(row[layer:], row[layer - 1] + rng.uniform(0.2, 0.8))
    return removal, methods


def error(model, count=200):
    removal, methods = policies(count, 99)
    return np.sqrt(np.mean((model.log_harm(removal, methods) - TRUE.log_harm(removal, methods)) ** 2))


def test_policies_teach_how_steps_add_up():
    removal, methods = policies(40, 0)
    noise = np.full(40, 0.01)
    log_kl = TRUE.log_harm(removal, methods) + np.random.default_rng(1).normal(0, 0.1, 40)
    learned = refit(PROFILE, removal, methods, log_kl, noise)
    assert error(learned) < 0.5 * error(PROFILE)
    assert learned.exponent < 0.75


def test_where_the_profile_is_right_it_stays():
    removal, methods = policies(30, 0)
    learned = refit(TRUE, removal, methods, TRUE.log_harm(removal, methods), np.full(30, 0.01))
    assert error(learned) < 0.02
    assert (learned.exponent, learned.behind) == (pytest.approx(0.5, abs=0.02), pytest.approx(0.6, abs=0.02))


def test_one_policy_that_nothing_explains_changes_little():
    removal, methods = policies(30, 0)
    log_kl = TRUE.log_harm(removal, methods)
    log_kl[3] += 5.0
    assert error(refit(TRUE, removal, methods, log_kl, np.full(30, 0.01))) < 0.15


def test_scorers_without_a_curve_teach_nothing():
    removal, methods = policies(12, 0)
    strange = [method._replace(inside="random") if method.inside else method._replace(before="x") for method in methods]
    assert refit(PROFILE, removal, strange, np.zeros(12), np.full(12, 0.01)) is PROFILE
    assert refit(HarmModel({}), removal, methods, np.zeros(12), np.full(12, 0.01)).curves == {}


def test_two_policies_are_too_few():
    removal, methods = policies(2, 0)
    assert refit(PROFILE, removal, methods, np.zeros(2), np.full(2, 0.01)) is PROFILE


def test_of_many_curves_those_that_most_policies_use_are_learned():
    layers = tuple(range(1, DEPTH))
    curves = {f"s{i}": HarmCurve(layers, (-1.0,) * len(layers), 2.0) for i in range(12)}
    profile = HarmModel(curves)
    removal = np.cumsum(np.random.default_rng(0).uniform(0, 0.3, (60, DEPTH)) * (np.arange(DEPTH) > 0), axis=1)
    methods = [Method("", f"s{min(i % 16, 11)}") for i in range(60)]
    learned = refit(profile, removal, methods, profile.log_harm(removal, methods) + 1.0, np.full(60, 0.01))
    changed = {label for label in curves if learned.curves[label] != curves[label]}
    assert "s11" in changed
    assert 4 <= len(changed) <= 8


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1e3, -1e3])
def test_what_is_no_number_or_absurd_ends_in_finite_curves(wrong):
    removal, methods = policies(12, 0)
    log_kl = TRUE.log_harm(removal, methods)
    log_kl[2] = wrong
    learned = refit(PROFILE, removal, methods, log_kl, np.full(12, 0.01))
    assert np.all(np.isfinite(learned.log_harm(removal, methods)))

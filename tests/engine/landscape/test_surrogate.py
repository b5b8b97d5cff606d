"""The process learns what the prior gets wrong, knows noise, and is sure only where it has seen."""

import numpy as np
import pytest

from autoprune.engine.landscape.surrogate import Observations, Surrogate

RNG = np.random.default_rng(0)


def world(n, rng):
    steps = rng.exponential(0.25, (n, 6)) * (rng.random((n, 6)) < 0.4)
    removal = np.cumsum(steps, axis=1) + 0.05
    methods = rng.integers(0, 2, (n, 3))
    truth = np.log(removal @ np.array([0.5, 0.2, 0.1, 0.05, 0.03, 0.02])) + 0.5 * methods[:, 1]
    prior = np.log(removal.mean(axis=1))  # knows that removal harms, not that early removal harms more
    return removal, methods, prior, truth


def error(surrogate, data):
    removal, methods, prior, truth = data
    return float(np.sqrt(np.mean((surrogate.predict(removal, methods, prior)[0] - truth) ** 2)))


def observed(data, noise, rng):
    removal, methods, prior, truth = data
    return Observations(
        removal, methods, prior, truth + rng.normal(0, noise, len(truth)), np.full(len(truth), noise**2)
    )


def test_it_learns_and_more_is_better():
    test = world(200, np.random.default_rng(1))
    errors = []
    for n in (5, 20, 80):
        surrogate, seen = Surrogate(), observed(world(n, np.random.default_rng(2)), 0.05, np.random.default_rng(3))
        surrogate.tune(seen)
        surrogate.fit(seen)
        errors.append(error(surrogate, test))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.4 * float(np.std(test[3]))


def test_it_is_surer_where_it_has_seen():
    data = world(30, np.random.default_rng(4))
    surrogate, seen = Surrogate(), observed(data, 0.05, np.random.default_rng(5))
    surrogate.fit(seen)
    _, here = surrogate.predict(*data[:3])
    _, far = surrogate.predict(data[0] + 4.0, data[1] + 9, data[2])
    assert here.max() < far.min()


def test_its_intervals_hold():
    inside = []
    for seed in range(5):
        surrogate, test = Surrogate(), world(100, np.random.default_rng(10 + seed))
        seen = observed(world(60, np.random.default_rng(20 + seed)), 0.1, np.random.default_rng(30 + seed))
        surrogate.tune(seen)
        surrogate.fit(seen)
        mean, deviation = surrogate.predict(*test[:3])
        inside.append(np.mean(np.abs(mean - test[3]) < 1.96 * deviation))
    assert np.mean(inside) > 0.85


def test_a_noisy_observation_counts_less():
    data = world(1, np.random.default_rng(6))
    removal, methods, prior, truth = (np.repeat(part, 2, axis=0) for part in data)
    target = np.array([truth[0], truth[0] + 2.0])
    means = []
    for noise in (np.array([0.001, 1.0]), np.array([1.0, 0.001])):
        surrogate = Surrogate()
        surrogate.fit(Observations(removal, methods, prior, target, noise))
        means.append(surrogate.predict(removal[:1], methods[:1], prior[:1])[0][0])
    assert means[0] < truth[0] + 0.7 < truth[0] + 1.3 < means[1]


def test_one_observation_is_enough():
    data = world(1, np.random.default_rng(7))
    surrogate = Surrogate()
    surrogate.fit(observed(data, 0.01, RNG))
    assert surrogate.predict(*data[:3])[0][0] == pytest.approx(data[3][0], abs=0.3)

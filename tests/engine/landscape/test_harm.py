"""Harm curves recover what made the probes, and never say that removing more harms less."""

import numpy as np
import pytest

from autoprune.engine.landscape.harm import HarmCurve, HarmModel
from autoprune.engine.landscape.removal import Method

LAYERS, REMOVALS = (1, 2, 4), (0.7, 1.6)


def probes(scale, power):
    return [(layer, r, scale[layer] * r**power) for layer in LAYERS for r in REMOVALS]


def test_a_curve_is_found_again():
    scale = {1: 0.5, 2: 0.3, 4: 0.05}
    curve = HarmCurve.fit(probes(scale, 2.1))
    assert curve.power == pytest.approx(2.1)
    for layer, a in scale.items():
        assert curve.at(layer, np.array([1.0]))[0] == pytest.approx(a)
    between = curve.at(3, np.array([1.0]))[0]
    assert 0.05 < between < 0.3


def test_a_layer_keeps_its_own_harm_beside_others():
    curve = HarmCurve.fit(probes({1: 0.2, 2: 0.02, 4: 0.1}, 1.5))
    found = [curve.at(layer, np.array([1.0]))[0] for layer in (1, 2, 4)]
    assert found == pytest.approx([0.2, 0.02, 0.1])
    more = curve.at(2, np.linspace(0, 3, 20))
    assert np.all(np.diff(more) > 0)


def test_one_probe_is_enough():
    curve = HarmCurve.fit([(0, 0.7, 0.1)])
    assert curve.at(0, np.array([0.7]))[0] == pytest.approx(0.1)


def test_harm_of_stages_adds_up_along_the_curves():
    model = HarmModel.fit({"in": [(0, r, 0.4 * r**2) for r in REMOVALS], "at": probes({1: 0.5, 2: 0.3, 4: 0.05}, 2.0)})
    removal = np.array([[0.5, 0.5, 0.5, 0.5, 1.0, 1.0]])
    expected = 0.4 * 0.5**2 + 0.05 * (1.0**2 - 0.5**2)
    assert np.exp(model.log_harm(removal, [Method("in", "at", "drop")]))[0] == pytest.approx(expected)


def test_harms_add_up_in_the_power_that_the_model_says_and_less_behind_a_filter():
    curves = HarmModel.fit({"in": [(0, r, 0.4 * r**2) for r in REMOVALS], "at": probes({1: 0.5, 2: 0.3, 4: 0.05}, 2.0)})
    removal = np.array([[0.5, 0.5, 0.5, 0.5, 1.0, 1.0]])
    model = HarmModel(curves.curves, exponent=0.5, behind=0.25)
    expected = (np.sqrt(0.4) * 0.5 + np.sqrt(0.05 * 0.25) * (1.0 - 0.5)) ** 2
    assert np.exp(model.log_harm(removal, [Method("in", "at", "drop")]))[0] == pytest.approx(expected)
    assert np.isfinite(HarmModel(curves.curves, exponent=1e-3).log_harm(removal, [Method("in", "at")])).all()


def test_dense_does_no_harm_and_without_probes_early_removal_is_worse():
    model = HarmModel({})
    rows = np.array([[0.0] * 6, [0.0, 1, 1, 1, 1, 1], [0.0, 0, 0, 0, 1, 1]])
    dense, early, late = model.log_harm(rows, [Method(inside="x")] * 3)
    assert dense < late < early

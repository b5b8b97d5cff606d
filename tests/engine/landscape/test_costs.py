"""The vectorised costs against the cost table, one policy at a time."""

import numpy as np
import pytest

from autoprune.engine.landscape.costs import CostSurface
from autoprune.engine.landscape.expected import Expected
from autoprune.engine.landscape.removal import removal_of
from autoprune.latency.cost_table import CostTable
from autoprune.policy import PruningPolicy, Stage

TABLE = CostTable(
    tokens=(8, 64, 128, 256),
    layers_ms=tuple((1.0, 2.0 + layer / 10, 4.0, 9.0) for layer in range(6)),
    around_ms=(0.5, 0.8, 1.2, 2.0),
    first_token=((8, 0.5), (256, 4.0)),
)
POLICIES = [
    PruningPolicy(),
    PruningPolicy((Stage("input", "truncate", keep=0.4),)),
    PruningPolicy((Stage(2, "random", keep=0.6), Stage(4, "random", keep=0.13)), last_layer="first_token"),
    PruningPolicy((Stage("input", "truncate", keep=0.7), Stage(5, "random", keep=0.01))),
]


def test_it_agrees_with_the_table():
    surface = CostSurface(TABLE, 256, 2, unit_ms=1.5)
    removal = np.stack([removal_of(policy, Expected().keeps(policy), 6) for policy in POLICIES])
    first = np.array([policy.last_layer == "first_token" for policy in POLICIES])
    expected = [1.5 * TABLE.ideal(policy, 256, 2) for policy in POLICIES]
    np.testing.assert_allclose(surface.milliseconds(removal, first), expected)
    assert surface.dense_ms == pytest.approx(expected[0])


def test_the_scale_just_fits():
    surface = CostSurface(TABLE, 256, 2)
    weights = np.array([[1.0] * 6, [0, 0, 0.5, 0.5, 1, 1], [0, 0, 0, 0, 0, 1.0]])
    first = np.array([False] * 3)
    allowed = np.full(3, 0.6 * surface.dense_ms)
    scale = surface.scale(weights, first, allowed, most=6.0)
    assert np.isnan(scale[2]), "one cut before the last layer cannot save 40 %"
    cost = surface.milliseconds(weights[:2] * scale[:2, None], first[:2])
    assert np.all(cost <= allowed[:2])
    gentler = surface.milliseconds(weights[:2] * (scale[:2, None] - 0.02), first[:2])
    assert np.all(gentler > allowed[:2])

"""The dynamic programme against the enumeration of all schedules."""

import itertools

import numpy as np
import pytest

from autoprune.engine.landscape.knapsack import cheapest_harm, schedules

LEVELS = (0.0, 0.5, 1.0, 2.0)


def enumerate_all(costs, harms, stage_cost, most, places):
    for path in itertools.product(range(len(LEVELS)), repeat=len(costs)):
        steps = [(a, b, layer) for layer, (a, b) in enumerate(zip((0, *path), path)) if a != b]
        if any(b < a or layer not in places for a, b, layer in steps) or len(steps) > most:
            continue
        cost = sum(costs[layer][level] for layer, level in enumerate(path)) + stage_cost * len(steps)
        yield cost, sum(harms[layer][a, b] for a, b, layer in steps)


@pytest.mark.parametrize("seed", range(6))
def test_no_schedule_beats_what_is_found(seed):
    rng = np.random.default_rng(seed)
    n = 4
    costs = np.array([[10 * np.exp(-level) for level in LEVELS]] * n) * rng.uniform(0.5, 2, (n, 1))
    curves = [rng.uniform(0.1, 1) * np.array(LEVELS) ** 2 for _ in range(n)]
    harms = [np.maximum(c[None, :] - c[:, None], 0) for c in curves]
    places, most = {0, 1, 3}, 2
    found = schedules(costs, harms, LEVELS, 0.3, most, places)
    everything = list(enumerate_all(costs, harms, 0.3, most, places))
    for budget in np.linspace(min(c for c, _ in everything), max(c for c, _ in everything), 15):
        best = min(harm for cost, harm in everything if cost <= budget + 1e-9)
        solution = cheapest_harm(found, budget + 1e-9)
        assert solution.harm == pytest.approx(best)
        assert sorted(solution.removal) == list(solution.removal)


def test_too_tight_a_budget_has_no_solution():
    costs = np.array([[2.0, 1.0]])
    assert cheapest_harm(schedules(costs, [np.zeros((2, 2))], (0.0, 1.0), 0.0, 1, {0}), 0.5) is None

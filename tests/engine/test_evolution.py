"""``EvolutionSampler``: an Optuna sampler like any other that breeds from the front."""

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    RelativeSamplerTestCase,
)

from autoprune._registry import SAMPLERS
from autoprune.engine.samplers.evolution import EvolutionSampler, population

SPACE = {
    "x": FloatDistribution(0.0, 1.0),
    "n": IntDistribution(1, 9, step=2),
    "s": FloatDistribution(1e-4, 1.0, log=True),
    "c": CategoricalDistribution(["a", "b", "c"]),
}
BOTH = [StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE]


class TestAnyOptunaSampler(BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(self):
        return EvolutionSampler


def make_study(seed=0, **options):
    return optuna.create_study(directions=["minimize", "maximize"], sampler=EvolutionSampler(seed, **options))


def trial(values, excess=None):
    params = {"x": 0.5}
    constraints = None if excess is None else {"budget": excess}
    found = optuna.create_trial(params=params, distributions={"x": SPACE["x"]}, values=values)
    if constraints:
        found.system_attrs["constraints:budget"] = excess
    return found


def test_the_population_is_the_front():
    trials = [trial([1, 0.5]), trial([2, 0.7]), trial([3, 0.8]), trial([4, 0.9]), trial([2.5, 0.6]), trial([5, 0.9])]
    assert population(trials, BOTH) == trials[:4]


def test_a_short_front_is_filled_by_the_next_ranks_and_then_by_the_least_infeasible():
    trials = [trial([1, 0.9], -1.0), trial([2, 0.5], -1.0), trial([0.5, 1.0], 9.0), trial([0.7, 0.9], 2.0)]
    assert population(trials, BOTH) == [trials[0], trials[1], trials[3], trials[2]]
    crowd = [trial([i, i / 10], -1.0) for i in range(1, 9)]
    assert population([*trials, *crowd], BOTH)[0] is trials[0]
    assert trials[2] not in population([*trials, *crowd], BOTH)


def test_children_are_means_or_mutations_of_parents():
    study = make_study(3)
    for _ in range(8):
        asked = study.ask(SPACE)
        study.tell(asked, [asked.params["x"], 1 - asked.params["x"]])  # all are on the front
    parents = [t.params for t in study.trials]
    means = mutations = 0
    for _ in range(40):
        child = study.ask(SPACE).params
        kept = max(sum(child[name] == parent[name] for name in SPACE) for parent in parents)
        halves = {round((a["x"] + b["x"]) / 2, 12) for a in parents for b in parents if a is not b}
        means += round(child["x"], 12) in halves
        mutations += round(child["x"], 12) not in halves and kept >= 1
        assert 1 <= child["n"] <= 9
        assert child["n"] % 2 == 1
        assert 1e-4 <= child["s"] <= 1
    assert means > 10
    assert mutations > 5


@pytest.mark.parametrize("mutation", [0.0, 1.0])
def test_the_mutation_chance_is_per_parameter(mutation):
    study = make_study(1, mutation=mutation)
    space = {f"x{i}": FloatDistribution(0.0, 1.0) for i in range(3)}
    for _ in range(12):
        asked = study.ask(space)
        study.tell(asked, [asked.params["x0"], 1 - asked.params["x0"]])
    values = {name: {t.params[name] for t in study.trials} for name in space}
    sums = {name: {round((a + b) / 2, 12) for a in values[name] for b in values[name]} for name in space}
    new = [study.ask(space).params for _ in range(30)]
    drawn = [any(round(p[name], 12) not in sums[name] for name in space) for p in new]
    assert sum(drawn) == (0 if mutation == 0 else pytest.approx(15, abs=10))


def test_it_beats_random_on_a_smooth_front():
    def best(sampler):
        study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
        space = {f"x{i}": FloatDistribution(0.0, 1.0) for i in range(6)}
        for _ in range(120):
            x = np.array(list((asked := study.ask(space)).params.values()))
            asked.set_constraint("budget", float(x.mean() - 0.5))
            study.tell(asked, [float(x.mean()), 1.0 - float(np.sum((x - 0.4) ** 2))])
        return max(t.values[1] for t in study.best_trials)

    ours = [best(EvolutionSampler(seed)) for seed in range(5)]
    theirs = [best(optuna.samplers.RandomSampler(seed=seed)) for seed in range(5)]
    assert np.median(ours) > np.median(theirs)


def test_the_same_seed_gives_the_same_children():
    found = []
    for _ in range(2):
        study = make_study(7)
        for _ in range(20):
            asked = study.ask(SPACE)
            study.tell(asked, [asked.params["x"], 1 - asked.params["x"] ** 2])
        found.append([t.params for t in study.trials])
    assert found[0] == found[1]


def test_running_trials_are_not_repeated():
    study = make_study(2)
    space = {"a": CategoricalDistribution(list(range(12))), "b": CategoricalDistribution(list(range(12)))}
    for _ in range(10):
        asked = study.ask(space)
        study.tell(asked, [asked.params["a"], asked.params["b"]])
    known = {tuple(t.params.values()) for t in study.trials}
    pending = [tuple(study.ask(space).params.values()) for _ in range(15)]
    assert len({*pending} - known) == 15


def test_all_parameters_are_sampled_relatively():
    study = make_study(4)
    study.tell(study.ask(SPACE), [0.5, 0.5])
    assert set(study.ask(SPACE).relative_params) == set(SPACE)


def test_it_is_registered():
    assert isinstance(SAMPLERS.get("evolution")(0), EvolutionSampler)

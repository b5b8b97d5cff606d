"""The harness of benchmarks/search: the simulator's optimum, the account, the figures, whole searches."""

import itertools

import numpy as np
import pytest
from account import Account, AccountedPool
from figures import curve, first_at, regret, scores, summary, table, volume
from searchers import decode, free_space, plain, product, quiet
from simulator import STEP, TOKENS, Simulated, _thin
from world import Truth

from autoprune.evaluate.evaluator import Job
from autoprune.evaluate.quality import kl_per_example
from autoprune.policy import PruningPolicy, Stage

BUDGET = 0.5


@pytest.fixture(scope="module")
def world():
    quiet()
    return Simulated(6, 0, BUDGET)


def random_policies(world, count, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        params = {
            name: d.choices[rng.integers(len(d.choices))] for name, d in free_space(world).items() if "keep" not in name
        }
        params |= {f"keep{place}": float(rng.uniform(world.low, 1.0)) for place in range(world.places)}
        yield decode(world, params, sort=bool(rng.integers(2)))


def test_dynamic_programming_finds_what_enumeration_finds():
    world = Simulated(3, 1, BUDGET)
    keeps = [k / TOKENS for k in range(TOKENS, 31, -2 * STEP)]
    vectors = [v for v in itertools.product(keeps, repeat=3) if v[0] >= v[1] >= v[2]]
    best = 0.0
    for before, inside in itertools.product((None, *world.inputs), (None, *world.insides)):
        for vector in vectors:
            if (before is None and vector[0] < 1) or (inside is None and vector[0] > vector[2]):
                continue
            policy = world.policy(vector, before, inside)
            if world.latency(policy) <= BUDGET:
                best = max(best, world.true_score(policy))
    assert best <= world.truth.best(BUDGET) + 1e-9
    assert best == pytest.approx(world.truth.best(BUDGET), abs=0.005)  # every second step only


def test_nothing_beats_the_true_front(world):
    truth = world.truth
    for policy in random_policies(world, 200):
        ratio = world.latency(policy)
        if ratio >= truth.ratio[0]:
            # The front is thinned to 600 bins of cost.
            assert world.true_score(policy) <= truth.score[truth.ratio <= ratio + 0.002].max() + 1e-9


def test_the_sample_agrees_with_the_truth_and_the_table_with_the_machine(world):
    policies = list(random_policies(world, 60))
    seen = np.array([(world.logits(p).argmax(1) == world.labels).mean() for p in policies])
    true = np.array([world.true_score(p) for p in policies])
    assert np.sqrt(np.mean((seen - true) ** 2)) < 0.02
    harm = np.array([world.harm(p) for p in policies])
    kl = np.array([kl_per_example(world.dense, world.logits(p)).mean() for p in policies])
    assert np.corrcoef(np.argsort(np.argsort(harm)), np.argsort(np.argsort(kl)))[0, 1] > 0.98
    error = np.array([world.cost(p) / world.latency(p) - 1 for p in policies])
    assert 0.001 < np.std(error) < 0.05


def test_thinning_keeps_no_dominated_solution_and_one_per_bin():
    rng = np.random.default_rng(0)
    cost, harm = _thin(rng.uniform(0, 1, 5000), rng.uniform(0, 1, 5000), 1.0)
    assert np.all(np.diff(cost) > 0)
    assert np.all(np.diff(harm) < 0)


def test_figures_of_the_true_front_are_perfect():
    truth = Truth(np.array([0.3, 0.5, 0.8]), np.array([0.6, 0.8, 0.9]), 0.1)
    rows = [[1.0, 0.8, 0.9, 0.9, "a"], [2.0, 0.5, 0.8, 0.8, "b"], [3.0, 0.3, 0.6, 0.6, "c"]]
    assert volume(rows, truth) == pytest.approx(100)
    volumes, regrets, best = curve(rows, truth, BUDGET, (0.5, 1.5, 3.5))
    assert volumes == pytest.approx([0, 100 * 0.2 * 0.8 / (0.2 * 0.8 + 0.3 * 0.7 + 0.2 * 0.5), 100])
    assert regrets == pytest.approx([70, 70, 0])
    assert best == pytest.approx([0.1, 0.1, 0.8])
    assert first_at(rows, truth, 99.0) == 3.0
    assert first_at(rows, truth, 101.0) == float("inf")


def test_a_search_counts_as_far_as_it_went():
    truth = Truth(np.array([0.4]), np.array([0.9]), 0.1)
    far, short = (
        {"limit": limit, "found": [[5.0, 0.4, score, score, "a"]], "parts": {}, "seconds": 1.0}
        for limit, score in ((60.0, 0.9), (30.0, 0.5))
    )
    found = summary([(far, truth), (far, truth), (short, truth)], BUDGET, 50.0)
    assert found["seeds"] == {"10": 3, "25": 3, "50": 2}
    assert found["volume"]["50"] == pytest.approx(100)
    assert table({"a": found})[-1] == "| a | 100.0 | 100.0 | 100.0 (2) |  |  | 0.0 | 0.0 | 0.0 |  |  |  |"
    assert scores({"a": found})[-1] == "| a | 0.900 | 0.900 | 0.900 |  |  |"


def test_the_pick_is_by_what_the_searcher_saw():
    truth = Truth(np.array([0.4]), np.array([0.9]), 0.1)
    rows = [[1.0, 0.4, 0.80, 0.90, "a"], [1.0, 0.45, 0.85, 0.70, "b"], [1.0, 0.6, 0.99, 0.99, "c"]]
    assert regret(rows, truth, BUDGET) == pytest.approx(20)


def test_one_equivalent_is_a_full_evaluation_on_the_budget(world):
    account = Account(world, BUDGET)
    account.charge("search", len(world.labels), BUDGET)
    assert account.spent == pytest.approx(1.0)
    account.charge_lexicon()
    assert account.parts["lexicon"] == pytest.approx(320 * 3 / (len(world.labels) * BUDGET))


@pytest.mark.parametrize("sampler", ["autoprune", "random"])
def test_a_product_search_pays_for_everything(world, sampler):
    account = product(world, sampler, 0, BUDGET, 12.0)
    assert account.spent == pytest.approx(sum(account.parts.values()))
    assert {"lexicon", "dense", "search to 64"} <= set(account.parts)
    assert ("profile" in account.parts) == (sampler == "autoprune")
    assert 12.0 <= account.spent < 15.0
    assert account.found
    assert [f.spent for f in account.found] == sorted(f.spent for f in account.found)
    looser = [f.ratio for f in account.found if f.ratio > BUDGET * 1.1]
    assert len(looser) <= (2 if sampler == "autoprune" else 0)  # they draw the front towards dense
    assert all(ratio < 1 for ratio in looser)


def test_layers_that_a_group_shares_are_charged_once(world):
    layer = [world.table.layer(index, TOKENS) / world.table.dense(TOKENS) for index in range(6)]
    account = Account(world, BUDGET)
    pool = AccountedPool(account, 1e9, lambda: None)
    deep, middle, first = (PruningPolicy((Stage(at, "random", keep=0.5),)) for at in (4, 2, 1))
    pool.submit(*(Job(policy.digest(), policy, 0, 64) for policy in (deep, middle, first)))
    pool.submit(Job(deep.digest(), deep, 64, 256))
    while pool.pending:
        pool.next()
    costs = [world.cost(deep), world.cost(middle) - sum(layer[:2]), world.cost(first) - layer[0]]
    expected = (64 * sum(costs) + 192 * world.cost(deep)) / (len(world.labels) * BUDGET)
    assert account.spent == pytest.approx(expected)


def test_the_same_seed_gives_the_same_search(world):
    first, second = (plain(world, "evolution", 3, BUDGET, 25.0, sort=False, constrain=True) for _ in range(2))
    assert first.to_dict() == second.to_dict()
    other = plain(world, "evolution", 4, BUDGET, 25.0, sort=False, constrain=True)
    assert first.to_dict() != other.to_dict()


def test_the_free_vector_reaches_every_kind_of_policy(world):
    kinds = {
        tuple(("input" if s.layer == "input" else "inside", s.scorer, s.reduce) for s in p.stages[:2])
        for p in random_policies(world, 400)
    }
    assert () in kinds
    assert {"lexicon", "truncate", "cls_attention", "random"} <= {part[1] for kind in kinds for part in kind}
    assert any(len(p.stages) == 1 and p.stages[0].layer == "input" for p in random_policies(world, 100))


def test_a_keep_without_a_method_has_no_effect(world):
    params = {f"keep{place}": 0.3 for place in range(world.places)}
    assert decode(world, {**params, "input": "none", "inside": "none"}, sort=False) == PruningPolicy()
    only = decode(world, {**params, "input": "lexicon", "inside": "none"}, sort=True)
    assert [stage.layer for stage in only.stages] == ["input"]

"""``AutopruneSampler``: an Optuna sampler like any other, and on its own space a better one."""

import json
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
import torch
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    RelativeSamplerTestCase,
)
from optuna.trial import TrialState

from autoprune.engine.landscape.costs import CostSurface
from autoprune.engine.landscape.curves import Curves
from autoprune.engine.landscape.expected import Expected
from autoprune.engine.landscape.guide import Guide
from autoprune.engine.landscape.harm import HarmModel
from autoprune.engine.landscape.removal import method_of, removal_of
from autoprune.engine.projection import MARGIN, Projector
from autoprune.engine.proposals import AIM_ATTR, KL_ATTR, Proposer, Start, describe
from autoprune.engine.samplers.autoprune import AutopruneSampler, expected_improvement
from autoprune.latency.cost_table import CostTable, Line
from autoprune.policy import PruningPolicy
from autoprune.spaces.schema import load_space_file, parse_space
from autoprune.spaces.space import Space

TABLE = CostTable(
    tokens=(8, 64, 128, 256),
    layers_ms=((0.6, 1.5, 3.0, 7.0),) * 6,
    around_ms=(0.3, 0.4, 0.6, 1.0),
    first_token=((8, 0.3), (256, 2.0)),
    scorers={"cls_attention@layer": Line(0.4), "lexicon@input": Line(0.1), "truncate@input": Line(0.05)},
)
DENSE_MS = TABLE.dense(256)
LIMIT_MS = 0.5 * DENSE_MS
TABLES = {"lexicon": "sha256:00"}


class TestAnyOptunaSampler(BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(self):
        # Start-up trials of the fallback draw independently; without them its relative sampling is what is tested.
        return lambda: AutopruneSampler(fallback=optuna.samplers.TPESampler(multivariate=True, n_startup_trials=0))


SELECTORS = """
version: 1
name: selectors
input: {scorers: [lexicon], select: [threshold, mass]}
stages: {scorers: [cls_attention], select: [mass, threshold], reduce: [drop, merge], schedule: [free]}
"""


def made_up_curves():
    """Return curves of heavy-tailed scores at every place of SELECTORS, on texts of 256 tokens."""
    generator = torch.Generator().manual_seed(0)
    places = [((-1, 0), "lexicon"), *(((layer, 0), "cls_attention") for layer in range(1, 6))]
    scores = {place: torch.randn(16, 256, generator=generator).mul(1.5).exp() for place in places}
    real, held = torch.ones(16, 256, dtype=torch.bool), torch.zeros(16, 256, dtype=torch.bool)
    held[:, [0, 255]] = True
    return Curves(scores, real, held)


def make_study(seed, sampler=None, file=None, expected=None, deep=False, probes=None):
    space = Space(file or load_space_file("quick"), 6)
    projector = Projector(TABLE, (256,), 2, "p50", TABLES, DENSE_MS, expected)
    guide = Guide(space, projector, LIMIT_MS, 0.1 * DENSE_MS, HarmModel.fit(probes or {}), deep=deep)
    sampler = sampler or AutopruneSampler(seed, guide)
    study = optuna.create_study(sampler=sampler, directions=["minimize", "maximize"])
    study.enqueue_trial(space.dense_params())
    trial = study.ask(space.distributions())
    describe(trial, PruningPolicy())
    study.tell(trial, [DENSE_MS, 0.9])
    return study, guide, Proposer(study, guide)


def true_kl(policy):
    """Early removal harms more, lexicon is worth having, and truncation is not."""
    depth = np.array([0.20, 0.30, 0.2, 0.1, 0.05, 0.02])
    removal = removal_of(policy, Expected().keeps(policy), 6)
    steps = np.diff(np.concatenate([[0.0], removal**2]))
    worse = 4.0 if any(stage.scorer in ("truncate", "random") for stage in policy.stages) else 1.0
    return float(depth @ steps) * worse + 1e-3


def evaluate(study, proposal, rng):
    kl = true_kl(proposal.policy) * float(np.exp(rng.normal(0, 0.05)))
    proposal.trial.set_user_attr(KL_ATTR, [[256, kl, 0.1 * kl]])
    study.tell(proposal.trial, [proposal.predicted_ms, 0.9 - kl])
    return true_kl(proposal.policy) if proposal.predicted_ms > 0.9 * LIMIT_MS else np.inf


def best_on_budget(seed, sampler=None, evaluations=20):
    study, _, proposer = make_study(seed, sampler)
    rng = np.random.default_rng(seed)
    return min(evaluate(study, proposer.next(), rng) for _ in range(evaluations))


def test_it_beats_random_proposals_on_the_same_space():
    ours = [best_on_budget(seed) for seed in range(5)]
    theirs = [best_on_budget(seed, optuna.samplers.RandomSampler(seed=seed)) for seed in range(5)]
    assert np.median(ours) < 0.8 * np.median(theirs)


def test_every_proposal_is_within_the_budget_and_new():
    study, _, proposer = make_study(3)
    rng, digests = np.random.default_rng(3), []
    for _ in range(15):
        proposal = proposer.next()
        assert proposal.predicted_ms <= LIMIT_MS
        digests.append(proposal.digest)
        evaluate(study, proposal, rng)
    assert len(set(digests)) == 15


def test_a_deep_guide_leads_it_over_the_whole_front():
    study, _, proposer = make_study(3, deep=True)
    rng, ratios, aims = np.random.default_rng(3), [], []
    for _ in range(30):
        proposal = proposer.next()
        aim = proposal.trial.user_attrs.get(AIM_ATTR, 1.0)
        target = MARGIN * aim * proposal.trial.params["share"] * LIMIT_MS
        assert 0.97 * target < proposal.predicted_ms <= target * 1.0001
        ratios.append(proposal.predicted_ms / DENSE_MS)
        aims.append(aim)
        evaluate(study, proposal, rng)
    assert min(ratios) < 0.2
    assert max(ratios) > 0.55
    assert sum(0.45 < ratio <= 0.5 for ratio in ratios) >= 5, "the budget gets its share"
    assert min(aims) < 1 < max(aims)


def test_pending_trials_divide_the_gap_that_they_are_in():
    study, guide, _ = make_study(5, deep=True)
    low, high = 0.2 * DENSE_MS, 0.4 * DENSE_MS
    memory = SimpleNamespace(front=[(low, 0.2), (high, 0.8)], pending=[])

    def drawn():
        shares = [study.sampler._target(guide, memory) for _ in range(600)]
        found = np.asarray([MARGIN * share * aim * LIMIT_MS for share, aim in shares if (share, aim) != (1.0, 1.0)])
        return found[(found > low) & (found < high)]

    assert drawn().min() > low + 0.24 * (high - low), "the middle half of the gap"
    memory.pending = [SimpleNamespace(latency_ms=(low + high) / 2)]
    halves = drawn()
    assert halves.min() < low + 0.15 * (high - low)
    assert np.all(np.abs(halves - (low + high) / 2) > 0.12 * (high - low))


@pytest.mark.parametrize(("share", "floor"), [((0.5, 0.6), 0.9), ((0.5, 1.0), 1.2), ((0.5, 1.0), 0.1)])
@pytest.mark.parametrize("deep", [False, True])
def test_the_reach_is_never_upside_down(share, floor, deep):
    guide = make_study(0)[1]
    guide.space.file = guide.space.file.model_copy(update={"share": share})
    guide.floor_ms, guide.deep = floor * LIMIT_MS, deep
    low, high = guide.reach_ms
    assert 0 < low <= high
    assert low >= MARGIN * min(LIMIT_MS, floor * LIMIT_MS)


@pytest.mark.parametrize("statistic", ["p50", "p95", "mean"])
def test_inputs_of_several_lengths_leave_candidates_on_the_budget(statistic):
    space = Space(load_space_file("quick"), 6)
    dense_ms = TABLE.predict_statistic(PruningPolicy(), (64, 128, 256), 2, statistic)
    projector = Projector(TABLE, (64, 128, 256), 2, statistic, TABLES, dense_ms)
    guide = Guide(space, projector, 0.5 * dense_ms, 0.1 * dense_ms, deep=True)
    assert guide.surface.dense_ms == pytest.approx(dense_ms)
    assert guide.reach_ms[1] == pytest.approx(MARGIN * dense_ms)
    point = {**space.dense_params(), "input.scorer": "lexicon", "share": 1.0}
    (cost,) = guide.place([point]).cost_ms
    assert cost == pytest.approx(MARGIN * 0.5 * dense_ms, rel=0.03)
    exact = projector.predict(projector.fit(space.shape(point), 0.5 * dense_ms))
    assert exact == pytest.approx(cost, rel=0.03)


def test_a_shallow_guide_keeps_it_within_the_shares_of_the_space():
    study, _, proposer = make_study(3)
    rng = np.random.default_rng(3)
    for _ in range(20):
        proposal = proposer.next()
        assert AIM_ATTR not in proposal.trial.user_attrs
        assert 0.5 * MARGIN * 0.97 < proposal.predicted_ms / LIMIT_MS <= MARGIN * 1.0001
        evaluate(study, proposal, rng)


def test_thresholds_and_masses_are_placed_known_and_learned_from():
    study, guide, proposer = make_study(3, file=parse_space(SELECTORS, "s"), expected=Expected(made_up_curves()))
    rng, removals = np.random.default_rng(3), []
    for _ in range(12):
        proposal = proposer.next()
        target = MARGIN * proposal.trial.params["share"] * LIMIT_MS
        assert 0.97 * target < proposal.predicted_ms <= target * 1.0001
        assert {stage.selector for stage in proposal.policy.stages} <= {"threshold", "mass"}
        removals.append(guide.removal(proposal.policy))
        proposal.trial.set_user_attr(
            KL_ATTR, [[256, float(removals[-1].sum()) * float(np.exp(rng.normal(0, 0.05))), 0.1]]
        )
        study.tell(proposal.trial, [proposal.predicted_ms, 0.9])
    assert len(study.sampler._memory.keys) >= 12, "dense and all that was read: no two of them alike"
    seen = study.sampler._memory.done
    assert len(seen) >= 11, "the last one is read at the next proposal"
    for one, removal in zip(seen, removals, strict=False):
        assert one.removal.tolist() == removal.tolist()
        assert one.key in study.sampler._memory.keys
    assert {one.method.select_before for one in seen} | {one.method.select_inside for one in seen} >= {
        "threshold",
        "mass",
    }


def test_the_same_seed_gives_the_same_policies():
    found = []
    for _ in range(2):
        study, _, proposer = make_study(7)
        rng, digests = np.random.default_rng(0), []
        for _ in range(8):
            proposal = proposer.next()
            digests.append(proposal.digest)
            evaluate(study, proposal, rng)
        found.append(digests)
    assert found[0] == found[1]


def test_a_batch_of_pending_trials_spreads():
    study, guide, proposer = make_study(5)
    rng = np.random.default_rng(5)
    for _ in range(6):
        evaluate(study, proposer.next(), rng)
    pending = [proposer.next() for _ in range(8)]
    keys = {
        guide.key(guide.removal(p.policy), method_of(p.policy), p.policy.last_layer == "first_token") for p in pending
    }
    assert len(keys) == 8, "two of them keep the same number of tokens everywhere, by the same method"


def test_enqueued_policies_come_first_and_unchanged():
    study, guide, proposer = make_study(1)
    space = guide.space
    params = {**space.dense_params(), "input.scorer": "lexicon", "stages.count": 0, "last_layer": "first_token"}
    study.enqueue_trial(params)
    proposal = proposer.next()
    assert {name: proposal.trial.params[name] for name in params} == params


PROBES = {
    "lexicon": [(0, 0.7, 0.1), (0, 1.6, 0.5)],
    "cls_attention": [(layer, r, 0.4 * np.exp(-layer / 2) * r**2) for layer in range(1, 6) for r in (0.7, 1.6)],
}


@pytest.mark.parametrize(("share", "aim"), [(0.7, 1.0), (1.0, 1.4)])
def test_where_a_share_alone_is_enqueued_the_best_schedule_for_it_is_proposed(share, aim):
    study, guide, proposer = make_study(0, probes=PROBES)
    best = guide.planned(share, aim)[0]
    Start({"share": share}, aim).enqueue(study)
    proposal = proposer.next()
    assert proposal.trial.params == pytest.approx({**best, "share": share})
    assert proposal.trial.user_attrs.get(AIM_ATTR, 1.0) == aim
    assert proposal.predicted_ms == pytest.approx(MARGIN * share * aim * LIMIT_MS, rel=0.05)


def test_a_driver_that_died_while_it_wrote_the_schedule_leaves_it_to_be_chosen_again():
    study, guide, _ = make_study(0, probes=PROBES)
    best = guide.planned(0.7)[0]
    Start({"share": 0.7}).enqueue(study)
    name, one = next((n, d) for n, d in guide.space.distributions().items() if n != "share")
    trial = study.ask({name: one})  # no more than that was written
    frozen = optuna.trial.create_trial(
        state=TrialState.RUNNING,
        params={name: trial.params[name]},
        distributions={name: one},
        system_attrs={"fixed_params": {"share": 0.7}},
    )
    again = study.sampler.sample_relative(study, frozen, guide.space.distributions())
    assert again == pytest.approx(best)


def test_what_was_scored_bends_the_curves_that_it_plans_by():
    factors = {"lexicon": 2.0, "cls_attention": 0.5}
    wrong = {label: [(layer, r, kl * factors[label]) for layer, r, kl in PROBES[label]] for label in PROBES}
    space = "version: 1\nname: two\ninput: {scorers: [lexicon]}\nstages: {scorers: [cls_attention], schedule: [free]}\n"
    study, guide, proposer = make_study(0, file=parse_space(space, "two.yaml"), probes=wrong)
    known, rng = guide.harm, np.random.default_rng(0)
    for _ in range(8):
        evaluate(study, proposer.next(), rng)
    proposer.next()
    assert guide.harm is not known
    done = [trial for trial in study.trials if KL_ATTR in trial.user_attrs]
    policies = [PruningPolicy.from_dict(json.loads(trial.user_attrs["policy"])) for trial in done]
    removal = np.stack([guide.removal(policy) for policy in policies])
    true = np.log([true_kl(policy) for policy in policies])
    methods = [method_of(policy) for policy in policies]
    before, after = (np.abs(harm.log_harm(removal, methods) - true) for harm in (known, guide.harm))
    assert after.mean() < 0.5 * before.mean()


def test_policies_stopped_on_few_examples_teach_as_well():
    study, _guide, proposer = make_study(2)
    for _ in range(6):
        proposal = proposer.next()
        proposal.trial.set_user_attr(KL_ATTR, [[64, true_kl(proposal.policy), 0.05]])
        study.tell(proposal.trial, state=TrialState.PRUNED)
    assert proposer.next() is not None
    assert len(study.sampler._memory.done) == 6


def test_all_parameters_are_sampled_relatively():
    study, guide, proposer = make_study(4)
    rng = np.random.default_rng(4)
    evaluate(study, proposer.next(), rng)
    trial = study.ask(guide.space.distributions())
    assert set(trial.relative_params) == set(guide.space.distributions())


def test_json_of_the_policy_is_what_it_reads():
    _study, _guide, proposer = make_study(6)
    proposal = proposer.next()
    assert PruningPolicy.from_dict(json.loads(proposal.trial.user_attrs["policy"])) == proposal.policy


def test_expected_improvement_is_that_of_simulation():
    rng = np.random.default_rng(0)
    best, mean, deviation = np.array([0.3, 0.3, 0.05]), np.array([-1.0, -2.0, -1.0]), np.array([0.5, 0.1, 0.3])
    draws = np.exp(mean[:, None] + deviation[:, None] * rng.normal(size=(3, 200_000)))
    expected = np.maximum(best[:, None] - draws, 0).mean(axis=1)
    np.testing.assert_allclose(expected_improvement(best, mean, deviation), expected, rtol=0.02, atol=1e-5)


def test_costs_are_those_of_the_exact_prediction():
    _, guide, _ = make_study(0)
    rows = guide.place(
        [{**guide.space.dense_params(), "input.scorer": "lexicon", "share": share} for share in (1.0, 0.6)]
    )
    assert len(rows.params) == 2
    for share, cost in zip((1.0, 0.6), rows.cost_ms):
        assert cost == pytest.approx(MARGIN * share * LIMIT_MS, rel=0.03)
    assert isinstance(guide.surface, CostSurface)

"""What a search proposes first: the profile's schedules on the budget, below it, and on the way to dense."""

import optuna
import pytest
from optuna.trial import TrialState

from autoprune.engine.guiding import faster_aims, first_proposals, looser_aims, make_guide
from autoprune.engine.landscape.harm import HarmModel
from autoprune.engine.landscape.planning import Planner
from autoprune.engine.projection import MARGIN, Projector
from autoprune.engine.proposals import AIM_ATTR, Proposer, Start
from autoprune.engine.samplers.autoprune import AutopruneSampler
from autoprune.latency.cost_table import CostTable, Line
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
TABLES = {"lexicon": "sha256:00"}
PROBES = {
    "lexicon": [(0, 0.7, 0.02), (0, 1.6, 0.2)],
    "truncate": [(0, 0.7, 0.1), (0, 1.6, 0.6)],
    "cls_attention": [(1, 0.7, 0.1), (1, 1.6, 0.5), (4, 0.7, 0.01), (4, 1.6, 0.05)],
}
NORM = {"norm": [(0, 0.7, 0.2), (0, 1.6, 0.9), (3, 0.7, 0.01), (3, 1.6, 0.05)]}


def guide_and_study(budget, sampler=None, floor=0.05, trials=24):
    space = Space(load_space_file("quick"), 6)
    projector = Projector(TABLE, (256,), 2, "p50", TABLES, DENSE_MS)
    limit, floor = budget * DENSE_MS, floor * DENSE_MS
    guide = make_guide(space, projector, limit, floor, HarmModel.fit(PROBES), trials)
    study = optuna.create_study(sampler=sampler or AutopruneSampler(0, guide), directions=["minimize", "maximize"])
    return guide, study, Proposer(study, guide)


def test_the_first_policies_span_the_front_from_half_the_budget_towards_dense():
    guide, study, proposer = guide_and_study(0.4)
    starts = first_proposals(study, guide)
    assert [start.aim for start in starts if start.aim > 1] == pytest.approx([0.4 ** (-1 / 3), 0.4 ** (-2 / 3)])
    for start in starts:
        start.enqueue(study)
    # Two starts may come to one policy, which is proposed once: so not every start is answered.
    ratios, aims = [], []
    while any(trial.state is TrialState.WAITING for trial in study.trials):
        proposal = proposer.next()
        aims.append(proposal.trial.user_attrs.get(AIM_ATTR, 1.0))
        ratios.append(proposal.predicted_ms / guide.limit_ms)
        assert ratios[-1] <= aims[-1] * MARGIN * 1.001
    assert sum(ratio > 1 for ratio in ratios) == sum(aim > 1 for aim in aims) == 2
    assert max(ratios) < 1 / 0.4
    assert min(ratios) < 0.55


def test_a_long_search_draws_the_fast_end_of_the_front_as_well():
    guide, study, _ = guide_and_study(0.4, floor=0.115, trials=39)
    short = first_proposals(study, guide)
    guide, study, proposer = guide_and_study(0.4, floor=0.115, trials=40)
    starts = first_proposals(study, guide)
    assert starts[: len(short)] == short
    assert len(starts) == len(short) + 3
    for start in starts[len(short) :]:
        start.enqueue(study)
    ratios = []
    while any(trial.state is TrialState.WAITING for trial in study.trials):
        ratios.append(proposer.next().predicted_ms / DENSE_MS)
    assert ratios == pytest.approx([MARGIN * 0.4 * aim for aim in faster_aims(guide)], rel=0.03)
    assert min(ratios) < 1.1 * 0.115


def test_where_the_floor_is_near_nothing_faster_is_aimed_at():
    guide, _, _ = guide_and_study(0.1)
    assert faster_aims(guide) == []


def test_where_dense_nearly_meets_the_budget_there_is_nothing_between():
    guide, study, _ = guide_and_study(0.95)
    assert looser_aims(guide) == []
    assert all(start.aim == 1 for start in first_proposals(study, guide))


def test_other_samplers_begin_with_the_seeds_on_the_budget():
    guide, study, _ = guide_and_study(0.4, optuna.samplers.RandomSampler(seed=0))
    starts = first_proposals(study, guide)
    assert starts
    assert all(start.aim == 1 for start in starts)


def test_an_aim_at_the_budget_leaves_no_mark():
    _, study, _ = guide_and_study(0.4)
    Start({"share": 1.0}).enqueue(study)
    assert AIM_ATTR not in study.trials[0].user_attrs


def test_starts_that_differ_in_their_aim_alone_all_wait_and_none_twice():
    guide, study, _ = guide_and_study(0.4)
    starts = first_proposals(study, guide)
    for start in [*starts, *starts]:
        start.enqueue(study)
    wanted = {(str(sorted(start.params.items())), start.aim) for start in starts}
    assert len(study.trials) == len(wanted)
    assert len({params for params, _ in wanted}) < len(wanted)


def test_methods_on_the_budget_are_distinct():
    guide, _, _ = guide_and_study(0.4)
    plans = Planner(guide.harm, guide.surface, guide.space).plans(guide.limit_ms, [1.0], 3)
    assert len(plans) == 3
    assert all(one.shape != other.shape for i, one in enumerate(plans) for other in plans[:i])
    assert [plan.harm for plan in plans] == sorted(plan.harm for plan in plans)


def test_a_second_early_cut_is_tried_behind_the_two_best_filters():
    guide, study, _ = guide_and_study(0.4)
    shapes = Planner(guide.harm, guide.surface, guide.space).mixed()
    assert [shape.stages[0].choice.label for shape in shapes] == ["lexicon", "truncate"]
    for shape in shapes:
        before, inside = shape.stages
        assert (before.layer, inside.layer, inside.choice.label, inside.reduce) == ("input", 2, "cls_attention", "fuse")
        assert 0 < before.weight < inside.weight == 1
    two = [start for start in first_proposals(study, guide) if start.params.get("stages.count")]
    assert {round(start.params["share"], 2) for start in two} >= {0.7, 0.9}


def test_a_space_of_few_shares_is_not_left_by_a_short_search():
    guide, study, _ = guide_and_study(0.4)
    guide.space.file = guide.space.file.model_copy(update={"share": (0.5, 0.6)})
    starts = [start for start in first_proposals(study, guide) if start.aim <= 1]
    assert {start.aim for start in starts} == {1.0}
    assert {round(start.params["share"], 2) for start in starts} == {0.5, 0.6}


def test_without_stages_inside_there_is_no_second_cut():
    guide, _, _ = guide_and_study(0.4)
    alone = Space(parse_space("version: 1\nname: mine\ninput: {scorers: [lexicon, truncate]}\n", "mine.yaml"), 6)
    assert Planner(guide.harm, guide.surface, alone).mixed() == []


@pytest.mark.parametrize("floor", [0.02, 0.05, 0.1])
@pytest.mark.parametrize(
    "stages",
    [
        "{scorers: [cls_attention], schedule: [free]}",
        "{scorers: [cls_attention], schedule: [linear], count: [0, 4]}",
        "{scorers: [cls_attention], schedule: [linear], count: [3, 4]}",
        "{scorers: [cls_attention], schedule: [geometric], count: [0, 4]}",
        "{scorers: [norm], schedule: [free], layers: [0, -1]}",
    ],
)
@pytest.mark.parametrize("probes", [PROBES | NORM, {}])
def test_every_start_is_answered_whether_or_not_a_schedule_is_known_for_it(floor, stages, probes):
    known, study, _ = guide_and_study(0.4, floor=floor, trials=40)
    text = f"version: 1\nname: mine\ninput: {{scorers: [lexicon]}}\nstages: {stages}\n"
    space = Space(parse_space(text, "mine.yaml"), 6)
    limits = known.projector, known.limit_ms, known.floor_ms
    for start in first_proposals(study, make_guide(space, *limits, HarmModel.fit(PROBES | NORM), 40)):
        start.enqueue(study)
    guide = make_guide(space, *limits, HarmModel.fit(probes), 40)
    study.sampler.guide = guide
    proposer = Proposer(study, guide)
    while any(trial.state is TrialState.WAITING for trial in study.trials):
        assert proposer.next() is not None


def test_where_no_schedule_on_the_budget_can_be_expressed_the_budget_is_aimed_at():
    known, study, _ = guide_and_study(0.4)
    text = "version: 1\nname: mine\nstages: {scorers: [cls_attention], schedule: [linear], count: [3, 4]}\n"
    space = Space(parse_space(text, "mine.yaml"), 6)
    guide = make_guide(space, known.projector, known.limit_ms, known.floor_ms, HarmModel.fit(PROBES), 24)
    starts = first_proposals(study, guide)
    assert starts[0].params["share"] == 1.0
    assert starts[0].aim == 1.0

"""Calibration on a small model: what curves expect of a policy is what it leaves of other texts."""

import statistics

import pytest
import torch

from autoprune.config import SearchConfig
from autoprune.engine import calibrating
from autoprune.engine.calibrating import open_expected, read_scores, scoring_stages
from autoprune.engine.events import Observer
from autoprune.engine.session import open_session
from autoprune.policy import Protect, PruningPolicy, Stage
from autoprune.pruning.attach import attach
from autoprune.pruning.tables import TableSet
from autoprune.store.repository import Store

SPACE = """
version: 1
name: selectors
input: {scorers: [lexicon, random, truncate], select: [threshold, mass]}
stages:
  scorers: [cls_attention, received_attention, norm, lexicon]
  where: [before, after_attention]
  select: [keep, threshold, mass]
  reduce: [drop, fuse, merge]
protect: {prefix: 3}
"""
CLS, RECEIVED = "cls_attention", "received_attention"
ONE_STAGE = [("input", "lexicon"), ("input", "truncate"), (1, CLS), (2, RECEIVED), (3, "norm"), (3, "lexicon")]


@pytest.fixture(scope="module")
def make_session(small_model, small_data, tmp_path_factory):
    def make(text=SPACE, **more):
        path = tmp_path_factory.mktemp("spaces") / "space.yaml"
        path.write_text(text)
        options = {"model": str(small_model), "dataset": str(small_data), "space": str(path), "threads": 1, **more}
        return open_session(SearchConfig.of(budget="80%", **options), Observer())

    return make


@pytest.fixture(scope="module")
def tables():
    found = TableSet()
    key = found.add({"importance": torch.rand(204, generator=torch.Generator().manual_seed(1)) ** 2})
    return found, {"lexicon": key}


@pytest.fixture(scope="module")
def known(make_session, tables, tmp_path_factory):
    session = make_session()
    with Store.open(tmp_path_factory.mktemp("db") / "studies.db") as store:
        yield session, open_expected(session, store, *tables, Observer())


def measured(session, policy, tables):
    """Return the mean share of a held-out text that each stage leaves, over all texts, one by one."""
    shares = []
    with torch.no_grad(), attach(session.task.model, policy, tokenizer=session.task.tokenizer, tables=tables) as handle:
        for _, batch in session.task.batches(0, 120, 1):
            with handle.record() as trace:
                session.task.model(**batch)
            left, row = float(batch["input_ids"].shape[1]), []
            acted = {step.stage: step.tokens[0] for step in trace.stages}
            for index in range(len(policy.stages)):
                left = acted.get(index, left)
                row.append(left / batch["input_ids"].shape[1])
            shares.append(row)
    return [statistics.mean(column) for column in zip(*shares, strict=True)]


def draft(session, tables, stages, select):
    made = []
    for layer, scorer, *more in stages:
        params = {"table": tables[1]["lexicon"]} if scorer == "lexicon" else {}
        made.append(Stage(layer, scorer, params=params, **{select: 0.5}, **(more[0] if more else {})))
    return PruningPolicy(tuple(made), Protect(prefix=3))


@pytest.mark.parametrize("select", ["threshold", "mass"])
@pytest.mark.parametrize("keep", [0.7, 0.35])
@pytest.mark.parametrize("stage", ONE_STAGE, ids=lambda stage: f"{stage[0]}-{stage[1]}")
def test_one_stage_leaves_of_other_texts_what_is_expected(known, tables, stage, keep, select):
    session, expected = known
    policy = expected.settle(draft(session, tables, [stage], select), (keep,))
    (share,) = expected.keeps(policy)
    assert share == pytest.approx(keep, abs=0.02)
    assert measured(session, policy, tables[0]) == pytest.approx([share], abs=0.04)


@pytest.mark.parametrize("select", ["threshold", "mass"])
@pytest.mark.parametrize(
    "stages",
    [
        [("input", "lexicon"), (3, "lexicon")],
        [("input", "random"), (2, CLS)],
        [(1, CLS), (2, CLS), (3, CLS)],
        [(1, RECEIVED, {"reduce": "fuse"}), (3, RECEIVED, {"reduce": "fuse"})],
        [(1, CLS, {"where": "after_attention"}), (2, CLS, {"where": "after_attention"})],
    ],
    ids=["same scores", "other scores", "three", "fused", "after attention"],
)
def test_several_stages_leave_of_other_texts_what_is_expected(known, tables, stages, select):
    session, expected = known
    keeps = [0.75, 0.5, 0.35][: len(stages)]
    policy = expected.settle(draft(session, tables, stages, select), keeps)
    shares = expected.keeps(policy)
    assert shares == pytest.approx(keeps, abs=0.03)
    assert measured(session, policy, tables[0]) == pytest.approx(shares, abs=0.06)


def test_every_place_of_the_space_is_scored(known, tables):
    session, _ = known
    stages = scoring_stages(session.space, tables[1])
    assert len(stages) == 3 + 4 * (3 + 3) == len({(stage.depth, stage.scorer) for stage in stages})
    facts = read_scores(session, stages, tables[0], Observer())
    assert facts["scores"].shape[:2] == (len(stages), 48)
    real = facts["real"]
    assert sorted(set(real.sum(1).tolist())) == sorted(set(session.workload.lengths))
    means = (facts["scores"].float() * real).sum(-1) / real.sum(-1)
    assert means == pytest.approx(torch.ones_like(means), abs=2e-3)
    assert facts["held"].sum(1).tolist() == [2] * 48, "the prefix is the policy's own matter"


def test_curves_are_kept_and_taken_again(make_session, tables, tmp_path, monkeypatch):
    session = make_session()
    policy = draft(session, tables, [("input", "lexicon"), (2, CLS)], "threshold")
    with Store.open(tmp_path / "studies.db") as store:
        first = open_expected(session, store, *tables, Observer())
        monkeypatch.setattr(calibrating, "read_scores", lambda *args: pytest.fail("the model ran again"))
        again = open_expected(session, store, *tables, Observer())
    settled = first.settle(policy, (0.6, 0.3))
    assert again.settle(policy, (0.6, 0.3)) == settled
    assert again.keeps(settled) == first.keeps(settled)


def test_a_space_of_shares_is_not_calibrated(make_session, monkeypatch):
    monkeypatch.setattr(calibrating, "read_scores", lambda *args: pytest.fail("the model ran"))
    session = make_session("version: 1\nname: plain\ninput: {scorers: [truncate]}")
    expected = open_expected(session, None, TableSet(), {}, Observer())
    assert expected.keeps(PruningPolicy((Stage("input", "truncate", keep=0.5),))) == (0.5,)


def test_batches_are_calibrated_by_their_longest_row(make_session, tables):
    session = make_session(batch_size=4)
    facts = read_scores(session, scoring_stages(session.space, tables[1]), tables[0], Observer())
    assert facts["real"].shape[0] == 48
    assert all(len(set(group.sum(1).tolist())) == 1 for group in facts["real"].split(4))

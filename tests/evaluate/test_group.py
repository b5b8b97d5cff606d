"""Jobs that run as a group: the very outcomes of jobs that run alone, for less work."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprune.evaluate.evaluator import Evaluator, Job
from autoprune.evaluate.group import run_group
from autoprune.evaluate.sharing import share_out, shared_layers
from autoprune.policy import Protect, PruningPolicy, Stage
from autoprune.testing.suite import stage, tables
from autoprune.testing.tiny import N_LAYERS, build, inputs, tiny

ROWS = 4
N = 3 * ROWS


class Examples:
    """Three batches of a family's tiny model, whose rows do not come in the fixed order."""

    def __init__(self, family, lengths=(20, 13, 7, 7)):
        self.recipe = tiny(family)
        self.model = build(self.recipe, head=True)
        self.tokenizer = SimpleNamespace(all_special_ids=[0, 1, 2], convert_ids_to_tokens=str)
        self.lengths = lengths
        self.served = 0

    def batches(self, start, stop, batch_size):
        for first in range(start, stop, ROWS):
            self.served += 1
            yield np.arange(first, first + ROWS)[::-1], inputs(self.recipe, self.lengths, seed=first)


def jobs_of(policies, start=0, stop=N):
    return [Job(str(number), policy, start, stop) for number, policy in enumerate(policies)]


def expect_the_same(evaluator, jobs):
    found = run_group(evaluator, jobs)
    assert [outcome.job for outcome in found] == jobs
    for outcome in found:
        alone = evaluator.run(outcome.job)
        assert outcome.error == alone.error
        np.testing.assert_array_equal(outcome.logits, alone.logits)
    return found


def count_runs(evaluator):
    """Return a list that grows by one whenever a layer really runs."""
    runs = []
    for layer in evaluator.model.base_model.encoder.layer:
        layer.intermediate.register_forward_hook(lambda *_: runs.append(1))
    return runs


@st.composite
def policies(draw):
    """Policies of few methods and places, so that many begin alike; some fit no model."""
    places = sorted(draw(st.sets(st.sampled_from([-1, 1, 2, 3, 9]), max_size=3)))
    keeps = sorted(draw(st.lists(st.sampled_from([0.3, 0.6]), min_size=3, max_size=3)), reverse=True)
    stages = []
    for place, keep in zip(places, keeps, strict=False):
        inside = place > 0
        scorer = draw(st.sampled_from(["cls_attention", "accumulated_attention", "norm"] if inside else ["lexicon"]))
        reducer = draw(st.sampled_from(["drop", "fuse", "merge"])) if inside else "drop"
        where = draw(st.sampled_from(["before", "before", "after_attention"])) if inside else "before"
        stages.append(stage(scorer, reducer, place if inside else "input", keep, where=where))
    protect = draw(st.sampled_from([Protect(), Protect(), Protect(prefix=3)]))
    return PruningPolicy(tuple(stages), protect, draw(st.sampled_from(["full", "first_token"])))


@pytest.fixture(scope="module")
def bert():
    return Evaluator(Examples("BERT"), tables()[0])


@settings(max_examples=40, deadline=None)
@given(st.lists(policies(), min_size=2, max_size=6), st.booleans())
def test_a_group_has_the_outcomes_of_its_jobs(bert, found, in_order):
    expect_the_same(bert, jobs_of(share_out(found, 1, N_LAYERS)[0] if in_order else found))


FAMILIES = ("RoBERTa", "DistilBERT", "ALBERT", "ModernBERT", "DeBERTa-v2", "ViT", "Llama")


@pytest.mark.parametrize("family", FAMILIES)
def test_families_with_logits_agree(family):
    even = family in ("Llama", "ViT")  # logits of every token, or pictures
    evaluator = Evaluator(Examples(family, (12,) * ROWS if even else (20, 13, 7, 7)), tables()[0])
    found = [PruningPolicy()]
    for name in ("norm", "random") if family == "DeBERTa-v2" else ("norm", "received_attention"):
        found += [PruningPolicy((stage(name, "drop", layer, keep),)) for layer in (1, 3) for keep in (0.6, 0.3)]
    (ordered,) = share_out(found, 1, N_LAYERS)
    assert all(outcome.error is None for outcome in expect_the_same(evaluator, jobs_of(ordered)))


def test_layers_that_policies_share_run_once():
    evaluator = Evaluator(Examples("BERT"), tables()[0])
    found = [
        PruningPolicy((stage("cls_attention", "drop", layer, keep),)) for layer in (1, 2, 3) for keep in (0.6, 0.3)
    ]
    (ordered,) = share_out(found, 1, N_LAYERS)
    runs = count_runs(evaluator)
    run_group(evaluator, jobs_of(ordered, stop=ROWS))
    shared = sum(shared_layers(a, b, N_LAYERS) for a, b in zip(ordered, ordered[1:], strict=False))
    assert len(runs) == N_LAYERS * len(found) - shared
    assert shared == 3 + 2 + 2 + 1 + 1


def test_a_policy_that_fails_takes_no_other_with_it():
    source = Examples("BERT")
    evaluator = Evaluator(source, tables()[0])
    good = [PruningPolicy((stage("norm", "drop", 3, keep),)) for keep in (0.6, 0.3)]
    misfits = [
        PruningPolicy((Stage(9, "norm", keep=0.5),)),
        PruningPolicy((Stage(3, "query_attention", keep=0.5, params={"rows": "question"}),)),
    ]
    runs = count_runs(evaluator)
    found = run_group(evaluator, jobs_of([good[0], *misfits, good[1]], stop=ROWS))
    assert [outcome.logits is None for outcome in found] == [False, True, True, False]
    assert "layers 0 to 3" in found[1].error
    assert "token_type_ids" in found[2].error
    assert len(runs) <= N_LAYERS + 1 + 2 * 3  # the second good one repeats three layers


def test_examples_that_cannot_be_read_fail_each_job_in_words():
    class Broken(Examples):
        def batches(self, start, stop, batch_size):
            raise OSError("no such disk")

    evaluator = Evaluator(Broken("BERT"), tables()[0])
    found = run_group(evaluator, jobs_of([PruningPolicy(), PruningPolicy((stage("norm", "drop", 2),))]))
    assert [outcome.error for outcome in found] == ["OSError: no such disk"] * 2


def test_what_has_nothing_in_common_runs_alone(monkeypatch):
    source = Examples("BERT")
    evaluator, alone = Evaluator(source, tables()[0]), []
    plain = evaluator.run
    monkeypatch.setattr(evaluator, "run", lambda job: (alone.append(job.key), plain(job))[1])
    at_input = [PruningPolicy((stage("lexicon", "drop", "input", keep),)) for keep in (0.6, 0.3)]
    inside = PruningPolicy((stage("norm", "drop", 2),))
    first = jobs_of([*at_input, inside], stop=ROWS)
    elsewhere = Job("elsewhere", inside, ROWS, N)
    expect = run_group(evaluator, [*first, elsewhere])
    assert alone == ["0", "1", "2", "elsewhere"]
    assert [outcome.job.key for outcome in expect] == alone


@pytest.mark.parametrize("state", ["training", "unknown"])
def test_models_whose_layers_may_not_repeat_themselves_are_scored_plainly(state, monkeypatch):
    evaluator, alone = Evaluator(Examples("BERT"), tables()[0]), []
    if state == "training":
        evaluator.model.train()
    else:
        evaluator.model.config.model_type = "mpnet"
    plain = evaluator.run
    monkeypatch.setattr(evaluator, "run", lambda job: (alone.append(job.key), plain(job))[1])
    found = run_group(evaluator, jobs_of([PruningPolicy(), PruningPolicy((stage("norm", "drop", 2),))], stop=ROWS))
    assert alone == ["0", "1"]
    assert found[0].error is None


def test_gradients_are_found_beside_shared_layers():
    """The scorer's own copy of the model is made while no layer repeats itself."""
    evaluator = Evaluator(Examples("BERT"), tables()[0])
    found = [PruningPolicy((stage(name, "drop", 2, keep),)) for name in ("saliency", "norm") for keep in (0.6, 0.3)]
    assert all(o.error is None for o in expect_the_same(evaluator, jobs_of(share_out(found, 1, N_LAYERS)[0])))
    assert not any("forward" in vars(layer) for layer in evaluator.model.base_model.encoder.layer)
    assert torch.is_grad_enabled()

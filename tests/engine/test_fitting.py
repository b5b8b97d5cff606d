"""A space is cut to what a model can carry: what is left runs, and what was left out is said."""

import optuna
import pytest
import torch

from autoprune.engine import fitting
from autoprune.engine.fitting import fit_space
from autoprune.errors import ConfigError
from autoprune.pruning.attach import attach
from autoprune.pruning.families import family_of
from autoprune.spaces.schema import load_space_file, parse_space
from autoprune.spaces.space import Space
from autoprune.testing.suite import tables as random_tables
from autoprune.testing.tiny import N_LAYERS, TINY, build, inputs, tiny


def fitted(name, family, *, head=True):
    model = build(tiny(family), head=head)
    file, notes = fit_space(load_space_file(name), family_of(model), model)
    return model, file, notes


@pytest.mark.parametrize("family", [recipe.family for recipe in TINY])
@pytest.mark.parametrize("name", ["everything", "decoder-prefill"])
def test_every_point_of_a_fitted_space_runs(name, family):
    model, file, _ = fitted(name, family)
    tables, key = random_tables()
    table_of = dict.fromkeys(fitting.MADE, key)
    space = Space(file, N_LAYERS)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    with torch.no_grad():
        for _ in range(5):
            policy = space.shape(study.ask(space.distributions()).params).policy(1.0, table_of)
            with attach(model, policy, tables=tables):
                model(**inputs(tiny(family)))


def test_a_model_that_carries_all_loses_nothing():
    _, file, notes = fitted("everything", "BERT")
    assert file == load_space_file("everything")
    assert notes == []


def test_what_is_left_out_is_said():
    _, file, notes = fitted("quick", "DeBERTa-v2")
    assert [choice.label for choice in file.stages.scorers] == ["random"]
    assert file.last_layer == ["full"]
    assert len(notes) == 3
    assert all("is left out: " in note for note in notes)
    _, file, notes = fitted("quick", "BERT", head=False)
    assert file.last_layer == ["full"]
    assert len(notes) == 1


def test_scorers_whose_tables_a_search_does_not_make_are_left_out(monkeypatch):
    monkeypatch.setattr(fitting, "MADE", {"lexicon"})  # as for a scorer of somebody else's
    model = build(tiny("BERT"))
    text = "version: 1\nname: mine\ninput: {scorers: [frequency, lexicon]}"
    file, notes = fit_space(parse_space(text, "mine.yaml"), family_of(model), model)
    assert [choice.label for choice in file.input.scorers] == ["lexicon"]
    assert notes == ["frequency is left out: It needs a table, and a search makes those of lexicon alone."]


def test_a_runtime_that_traces_leaves_selectors_out_that_depend_on_scores():
    model = build(tiny("BERT"))
    text = "version: 1\nname: mine\ninput: {scorers: [truncate], select: [mass]}\n"
    text += "stages: {scorers: [norm], select: [threshold, keep]}"
    both = parse_space(text, "mine.yaml")
    file, notes = fit_space(both, family_of(model), model, "compile")
    assert (file.input.scorers, file.stages.select) == ([], ["keep"])
    assert [note.split(" is left out: ")[0] for note in notes] == ["mass", "threshold"]
    assert all("cannot be traced" in note for note in notes)
    assert fit_space(both, family_of(model), model) == (both, [])


def test_onnxruntime_leaves_out_what_no_graph_can_hold():
    model = build(tiny("BERT"), head=True)
    file = parse_space("version: 1\nname: mine\nstages: {scorers: [saliency, norm]}", "mine.yaml")
    family = family_of(model)
    assert fit_space(file, family, model)[1] == []
    fitted, notes = fit_space(file, family, model, "onnxruntime")
    assert [choice.label for choice in fitted.stages.scorers] == ["norm"]
    assert len(notes) == 1
    assert notes[0].startswith("saliency is left out: ")
    assert "ONNX" in notes[0]


def test_a_space_with_nothing_for_the_model_is_refused():
    model = build(tiny("DeBERTa-v2"))
    file = parse_space("version: 1\nname: mine\nstages: {scorers: [cls_attention]}", "mine.yaml")
    with pytest.raises(ConfigError, match="computes attention by itself"):
        fit_space(file, family_of(model), model)

"""What ships: every file is valid, and every policy it proposes runs on the families that it says it is for."""

import subprocess
import sys

import optuna
import pytest
import torch

from autoprune._registry import REDUCERS, SCORERS
from autoprune.pruning.attach import attach
from autoprune.pruning.families import FAMILIES
from autoprune.pruning.methods import takes_table
from autoprune.spaces.listing import summaries
from autoprune.spaces.schema import load_space_file, shipped
from autoprune.spaces.space import Space
from autoprune.testing.suite import tables as random_tables
from autoprune.testing.tiny import N_LAYERS, build, inputs, tiny

BERT_LIKE = ["BERT", "RoBERTa", "XLM-R", "ELECTRA", "DistilBERT", "ALBERT"]
FITS = {
    "quick": BERT_LIKE,
    "text-encoder": [*BERT_LIKE, "ModernBERT"],
    "static-only": [*BERT_LIKE, "ModernBERT", "DeBERTa-v2", "CLIP text", "BART encoder", "T5 encoder"],
    "everything": BERT_LIKE,
    "vision": ["ViT", "DeiT", "DINOv2", "CLIP vision"],
    "speech": ["Whisper encoder", "wav2vec2", "HuBERT"],
    "decoder-prefill": ["Llama", "Qwen2", "Qwen3"],
}
LATER = {"vision", "speech", "decoder-prefill"}
POINTS = 6


def test_the_shipped_spaces():
    assert shipped() == sorted(FITS)
    assert {name for names in FITS.values() for name in names} == {family.name for family in FAMILIES}


@pytest.mark.parametrize("name", sorted(FITS))
def test_a_shipped_space_is_valid_and_says_for_what_it_is(name):
    file = load_space_file(name)
    assert file.name == name
    assert len(file.description) > 30
    assert ("not possible yet" in file.description) == (name in LATER)
    space = Space(file, 12)
    assert space.encode(space.shape(space.dense_params()), 1.0)


@pytest.mark.parametrize(("name", "family"), [(name, family) for name in FITS for family in FITS[name]])
def test_random_points_run_on_the_family(name, family):
    recipe = tiny(family)
    model = build(recipe, head=True)
    tables, key = random_tables()
    table_of = dict.fromkeys(filter(takes_table, SCORERS.names()), key)
    space = Space(load_space_file(name), N_LAYERS)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=len(family)))
    batch = inputs(recipe)
    with torch.no_grad():
        for index in range(POINTS):
            shape = space.shape(study.ask(space.distributions()).params)
            policy = shape.policy(0.4 * (index + 1), table_of)
            with attach(model, policy, tables=tables):
                output = model(**batch)
            assert all(bool(torch.isfinite(value).all()) for value in output.values() if torch.is_tensor(value))


def test_everything_names_all_methods_that_a_search_can_serve():
    """The gradient of saliency is slower than dense."""
    space = Space(load_space_file("everything"), 12)
    assert set(SCORERS.names()) - space.scorers() == {"saliency"}
    assert set(REDUCERS.names()) == {choice.reduce for choice in space.reducer_choices()}


def test_listing_needs_no_torch():
    program = "import sys; from autoprune.spaces.listing import summaries; n = len(summaries()); "
    program += "print(n, 'torch' in sys.modules, 'optuna' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60).stdout
    assert out.split() == [str(len(FITS)), "False", "False"]


def test_the_listing_says_what_the_files_say():
    for row in summaries():
        file = load_space_file(row["name"])
        assert row == {"name": file.name, "trials": file.trials, "description": file.description}

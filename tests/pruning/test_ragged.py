"""Batches without padding whose rows lose different numbers of tokens: each row must equal itself alone.

The forward on the default backend is among the cells (``testing.variants``).
"""

import pytest
import torch

from autoprune.errors import PolicyError
from autoprune.policy import PruningPolicy, Stage
from autoprune.pruning import attach
from autoprune.testing.suite import pruned
from autoprune.testing.tiny import Tiny, build, inputs, one_row, tiny

LENGTHS = (16, 16, 16)
DECODERS = ["Llama", "Qwen2", "Qwen3"]
RAGGED = PruningPolicy(stages=(Stage(1, "norm", threshold=1.0), Stage(3, "norm", mass=0.6)))


def _check(recipe: Tiny, attention: str) -> None:
    model, batch = build(recipe, head=bool(recipe.head), attention=attention), inputs(recipe, LENGTHS)
    batch.pop("attention_mask", None)
    together, trace = pruned(model, recipe, RAGGED, batch)
    assert len(set(trace.stages[0].tokens)) > 1, "the case is not ragged"
    for row in range(len(LENGTHS)):
        alone, _ = pruned(model, recipe, RAGGED, one_row(recipe, batch, row))
        torch.testing.assert_close(together[row], alone[0], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["BERT", "ModernBERT", "ViT", "T5 encoder", "wav2vec2", "Llama"])
def test_the_eager_backend_gets_a_mask_that_it_can_add(family: str) -> None:
    _check(tiny(family), "eager")


@pytest.mark.parametrize("family", DECODERS)
@pytest.mark.parametrize("given", [True, False])
def test_generate_from_prompts_of_one_length(family: str, given: bool) -> None:
    recipe = tiny(family)
    model, batch = build(recipe, head=True), inputs(recipe, LENGTHS)
    if not given:
        del batch["attention_mask"]
    how = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    with attach(model, RAGGED):
        together = model.generate(**batch, **how)
        for row in range(3):
            assert together[row].tolist() == model.generate(**one_row(recipe, batch, row), **how)[0].tolist()


def test_whisper_refuses_what_no_mask_could_hide() -> None:
    recipe = tiny("Whisper encoder")
    model, batch = build(recipe), inputs(recipe, LENGTHS)
    with pytest.raises(PolicyError, match="Whisper encoder has no mask"):
        pruned(model, recipe, RAGGED, batch)
    _, trace = pruned(model, recipe, RAGGED, one_row(recipe, batch, 0))
    assert len(trace.stages) == 2
    keep = PruningPolicy(stages=(Stage(1, "norm", keep=0.5),))
    assert pruned(model, recipe, keep, batch)[1].stages[0].tokens == [10, 10, 10]

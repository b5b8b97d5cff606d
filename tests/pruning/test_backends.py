"""Attention backends: each gets masks in its own form, or is refused by name."""

import pytest
import torch

from autoprune.errors import UnsupportedModelError
from autoprune.policy import PruningPolicy
from autoprune.pruning import attach, attached_handle, family_of
from autoprune.pruning.decoder import Prefix, step_mask
from autoprune.pruning.masks import MaskForm, layer_mask
from autoprune.pruning.state import Run
from autoprune.testing.suite import stage, tables
from autoprune.testing.tiny import build, inputs, tiny

STATIC = PruningPolicy(stages=(stage("lexicon", layer=2),))


@pytest.mark.parametrize(("family", "backend"), [("BERT", "flex_attention"), ("ModernBERT", "flash_attention_2")])
def test_backends_that_cannot_follow_are_refused_at_attach(family: str, backend: str) -> None:
    model = build(tiny(family))
    model.config._attn_implementation_internal = backend
    with pytest.raises(UnsupportedModelError, match=backend) as caught:
        attach(model, STATIC, tables=tables()[0])
    assert "sdpa" in caught.value.hint
    assert attached_handle(model) is None


def test_flash_attention_gets_two_dimensional_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    # The kernel needs a GPU: what reaches it is looked at instead, in place of the layers' attention.
    model, batch = build(tiny("BERT")), inputs(tiny("BERT"))
    model.config._attn_implementation_internal = "flash_attention_2"
    seen = []

    def look(module, query, key, value, attention_mask, **kwargs):
        seen.append(attention_mask)
        return query.transpose(1, 2), None

    monkeypatch.setattr("transformers.modeling_utils.AttentionInterface.get_interface", lambda *_, **__: look)
    with attach(model, STATIC, tables=tables()[0]) as handle, torch.no_grad(), handle.record() as trace:
        model(**batch)
    width = max(trace.stages[0].tokens)
    assert [tuple(mask.shape) for mask in seen] == [(3, 20)] * 2 + [(3, width)] * 2
    assert seen[-1].sum(1).tolist() == trace.stages[0].tokens


def _ragged() -> Run:
    run = Run(None, None)
    run.positions, run.valid = torch.tensor([[0, 0, 3], [1, 2, 3]]), torch.tensor([[False, True, True], [True] * 3])
    return run


def test_flash_attention_without_a_given_mask() -> None:
    family, form = family_of(tiny("Llama").config()), MaskForm("flash_attention_2", torch.bfloat16)
    run = _ragged()
    assert layer_mask(family, run, None, form) is run.valid
    prefix = Prefix(4, {1: (run.positions, run.valid)})
    found = step_mask(prefix, 1, None, form, 1, 5)
    assert found is not None
    assert found.int().tolist() == [[0, 1, 1, 1, 1], [1, 1, 1, 1, 1]]
    given = torch.tensor([[0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
    found = step_mask(prefix, 1, given, form, 1, 5)
    assert found is not None
    assert found.tolist() == [[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]


@pytest.mark.parametrize("backend", ["sdpa", "eager"])
def test_a_step_of_two_tokens_sees_the_first_of_them(backend: str) -> None:
    run = _ragged()
    found = step_mask(Prefix(4, {1: (run.positions, run.valid)}), 1, None, MaskForm(backend, torch.float32), 2, 4)
    assert found is not None
    seen = found if found.dtype == torch.bool else found == 0
    assert seen[0, 0].int().tolist() == [[0, 1, 1, 1, 0], [0, 1, 1, 1, 1]]

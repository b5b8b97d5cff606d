"""Decoders: consistent caches, so that generation works after the prompt was shortened."""

import pytest
import torch
from transformers import StaticCache

from autoprune.errors import PolicyError, UnsupportedModelError
from autoprune.policy import PruningPolicy, Stage
from autoprune.pruning import attach
from autoprune.testing.tiny import build, inputs, one_row, tiny

POLICY = PruningPolicy(stages=(Stage(1, "query_attention", keep=0.6), Stage(3, "received_attention", keep=0.3)))
FAMILIES = ["Llama", "Qwen2", "Qwen3"]


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_cache_what_reached_them(family: str) -> None:
    recipe = tiny(family)
    model = build(recipe, head=True)
    with attach(model, POLICY), torch.no_grad():
        out = model(**one_row(recipe, inputs(recipe), 0), use_cache=True)
    assert [layer.keys.shape[2] for layer in out.past_key_values.layers] == [20, 12, 12, 6]
    assert out.logits.shape[1] == 20


@pytest.mark.parametrize("family", FAMILIES)
def test_generate_in_a_left_padded_batch_equals_one_by_one(family: str) -> None:
    recipe = tiny(family)
    model, batch = build(recipe, head=True), inputs(recipe)
    how = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    with attach(model, POLICY):
        together = model.generate(**batch, **how)
        for row in range(3):
            alone = model.generate(**one_row(recipe, batch, row), **how)
            assert together[row, -6:].tolist() == alone[0, -6:].tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_steps_equal_a_plain_model_with_the_dropped_tokens_masked(family: str) -> None:
    # A stage at layer 1 of a two-layer view: layer 0 sees all, later layers see what is left. An oracle that masks the
    # dropped keys in those layers by hand must give the same next-token logits.
    recipe = tiny(family)
    model, batch = build(recipe, head=True), one_row(recipe, inputs(recipe), 0)
    policy = PruningPolicy(stages=(Stage(1, "random", keep=0.5),))
    step = torch.tensor([[7]])
    with torch.no_grad():
        with attach(model, policy) as handle, handle.record() as trace:
            first = model(**batch, use_cache=True)
            kept = trace.stages[0].kept[0]
            second = model(input_ids=step, attention_mask=torch.ones(1, 21), past_key_values=first.past_key_values)
        gone = [p for p in range(20) if p not in kept]

        def mask(number: int):
            def hook(module, args, kwargs):
                n = 20 if kwargs["hidden_states" if "hidden_states" in kwargs else 0].shape[1] == 20 else 1
                full = torch.ones(21 if n == 1 else 20, 21 if n == 1 else 20, dtype=torch.bool).tril()[-n:]
                full[:, gone] = False
                if n == 20:
                    full[gone] = True
                return args, {**kwargs, "attention_mask": full[None, None]}

            return hook

        hooks = [
            layer.register_forward_pre_hook(_by_keyword(mask(i)), with_kwargs=True)
            for i, layer in enumerate(model.model.layers)
            if i >= 1
        ]
        plain = model(**batch, use_cache=True)
        want = model(input_ids=step, attention_mask=torch.ones(1, 21), past_key_values=plain.past_key_values)
        for hook in hooks:
            hook.remove()
    torch.testing.assert_close(first.logits[:, -1], plain.logits[:, -1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(second.logits, want.logits, atol=1e-4, rtol=1e-4)


def _by_keyword(inner):
    def hook(module, args, kwargs):
        named = {**kwargs, "hidden_states": args[0]} if args else kwargs
        return inner(module, (), named)

    return hook


def test_beam_search_and_two_conversations() -> None:
    recipe = tiny("Llama")
    model, batch = build(recipe, head=True), inputs(recipe)
    how = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    with attach(model, POLICY):
        beams = model.generate(**batch, num_beams=2, **how)
        for row in range(3):
            alone = model.generate(**one_row(recipe, batch, row), num_beams=2, **how)
            assert beams[row, -4:].tolist() == alone[0, -4:].tolist()


def test_fixed_caches_early_stages_and_mixing_reducers_are_refused() -> None:
    recipe = tiny("Llama")
    model = build(recipe, head=True)
    for stage in (Stage(0, "random", keep=0.5), Stage("input", "random", keep=0.5)):
        with pytest.raises(UnsupportedModelError, match="layer 0"):
            attach(model, PruningPolicy(stages=(stage,)))
    with pytest.raises(UnsupportedModelError, match="causal"):
        attach(model, PruningPolicy(stages=(Stage(1, "random", keep=0.5, reduce="merge"),)))
    with attach(model, POLICY), pytest.raises(PolicyError, match="StaticCache"):
        model(**one_row(recipe, inputs(recipe), 0), past_key_values=StaticCache(model.config, max_cache_len=32))

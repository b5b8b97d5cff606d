"""The public face of the engine: attach, detach, record, protection, re-entrance, precision."""

import threading
import warnings

import pytest
import torch

from autoprune.errors import ConfigError, DataError, PolicyError, UnsupportedModelError
from autoprune.policy import Protect, PruningPolicy, Stage
from autoprune.pruning import attach, attached_handle, family_of, protected_count, twin
from autoprune.testing.suite import arguments, forward, main_output, pruned, stage, tables
from autoprune.testing.tiny import TINY, build, inputs, one_row, tiny

BERT = tiny("BERT")
CUT = PruningPolicy(stages=(Stage(1, "cls_attention", keep=0.5, reduce="fuse"),))


class _Tokenizer:
    all_special_ids = (0, 1, 2, 3)
    unk_token_id = 3
    is_fast = True

    def get_vocab(self) -> dict[str, int]:
        return {**{f"w{i}": i for i in range(10, 60)}, **{f"Name{i}": i for i in range(60, 120)}}


def test_attaching_twice_is_refused_and_detaching_twice_is_fine() -> None:
    model = build(BERT, head=True)
    handle = attach(model, CUT)
    assert attached_handle(model) is handle
    with pytest.raises(PolicyError, match="already"):
        attach(model, CUT)
    handle.detach()
    handle.detach()
    assert attached_handle(model) is None
    with attach(model, CUT):
        pass


def test_a_dense_policy_puts_no_hooks_on() -> None:
    model = build(BERT, head=True)
    with attach(model, PruningPolicy()):
        assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())


def test_twin_shares_tensors_and_is_independent() -> None:
    model, batch = build(BERT, head=True), inputs(BERT)
    want = forward(model, BERT, batch)
    with attach(model, CUT):
        other = twin(model)
        shared = dict(other.named_parameters())
        assert all(shared[name] is tensor for name, tensor in model.named_parameters())
        assert other.config is not model.config
        assert torch.equal(forward(other, BERT, batch), want)
        assert not torch.equal(forward(model, BERT, batch), want)
        with attach(other, PruningPolicy(last_layer="first_token")):
            torch.testing.assert_close(forward(other, BERT, batch), want, atol=1e-5, rtol=0)


def test_models_that_share_a_configuration_do_not_disturb_each_other() -> None:
    one = build(BERT, head=True)
    two = type(one)(one.config).eval()
    a, b = attach(one, CUT), attach(two, CUT)
    a.detach()
    assert forward(two, BERT, inputs(BERT)).shape == (3, 3)
    b.detach()
    assert one.config._attn_implementation == "sdpa"


def test_threads_and_two_models_at_once() -> None:
    models = [build(BERT, head=True, seed=i) for i in range(2)]
    policies = [CUT, PruningPolicy(stages=(Stage("input", "random", keep=0.4),), last_layer="first_token")]
    batches = [inputs(BERT, (20, 12), seed=i) for i in range(4)]
    for model, policy in zip(models, policies):
        attach(model, policy)
    jobs = [(m, i) for m in range(2) for i in range(4)] * 3
    want = {(m, i): forward(models[m], BERT, batches[i]) for m, i in set(jobs)}
    wrong: list[tuple[int, int]] = []

    def work(part: list[tuple[int, int]]) -> None:
        for m, i in part:
            if not torch.equal(forward(models[m], BERT, batches[i]), want[m, i]):
                wrong.append((m, i))

    threads = [threading.Thread(target=work, args=(jobs[k::4],)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_pruned_forward_inside_a_pruned_forward() -> None:
    outer, inner = build(BERT, head=True, seed=0), build(BERT, head=True, seed=1)
    batch, small = inputs(BERT), inputs(BERT, (9,))
    attach(outer, CUT)
    attach(inner, CUT)
    want = forward(outer, BERT, batch), forward(inner, BERT, small)
    seen = []
    outer.bert.encoder.layer[1].register_forward_hook(lambda *_: seen.append(forward(inner, BERT, small)))
    assert torch.equal(forward(outer, BERT, batch), want[0])
    assert torch.equal(seen[0], want[1])


def test_an_error_inside_a_forward_leaves_no_state() -> None:
    model, batch = build(BERT, head=True), inputs(BERT)
    attach(model, CUT)
    want = forward(model, BERT, batch)
    with pytest.raises(IndexError):
        model(input_ids=torch.full((1, 9), 10_000), attention_mask=torch.ones(1, 9))
    from autoprune.pruning.state import current_run

    assert current_run() is None
    assert torch.equal(forward(model, BERT, batch), want)


@pytest.mark.parametrize("scorer", ["cls_attention", "saliency", "received_attention"])
def test_inference_mode(scorer: str) -> None:
    model, batch = build(BERT, head=True), inputs(BERT)
    attach(model, PruningPolicy(stages=(stage(scorer),)), tables=tables()[0])
    want = forward(model, BERT, batch)
    with torch.inference_mode():
        fresh = {name: tensor.clone() for name, tensor in batch.items()}
        assert torch.equal(model(**fresh).logits, want)


@pytest.mark.parametrize("family", ["BERT", "ModernBERT", "ViT", "DeBERTa-v2", "Llama"])
@pytest.mark.parametrize("reducer", ["drop", "merge"])
def test_autocast_bfloat16(family: str, reducer: str) -> None:
    if family == "Llama" and reducer != "drop":
        pytest.skip("decoders only drop")
    recipe = tiny(family)
    model, batch = build(recipe, head=True), inputs(recipe)
    scorer = "norm" if family == "DeBERTa-v2" else "received_attention"
    policy = PruningPolicy(stages=(stage(scorer, reducer), stage(scorer, reducer, 3, 0.3)))
    with attach(model, policy), torch.no_grad():
        want = main_output(model(**arguments(model, recipe, batch)))
        with torch.autocast("cpu", torch.bfloat16):
            got = main_output(model(**arguments(model, recipe, batch)))
    if recipe.kind == "prompt":
        want, got = (out[batch["attention_mask"].bool()] for out in (want, got))
    # Eight roundings of eight bits: layers add theirs up, and near-equal partners of a merge may change places.
    torch.testing.assert_close(got.float(), want, atol=2**-4 * float(want.abs().max()), rtol=0)


def test_bfloat16_weights() -> None:
    for family in ("BERT", "ViT"):
        recipe = tiny(family)
        model, batch = build(recipe, head=True).to(torch.bfloat16), inputs(recipe)
        for scorer, reducer in (("cls_attention", "fuse"), ("entropy", "energy_merge"), ("norm", "cut_and_merge")):
            out, trace = pruned(model, recipe, PruningPolicy(stages=(stage(scorer, reducer),)), batch)
            assert bool(torch.isfinite(out.float()).all())
            assert len(trace.stages) == 1


def test_no_mask_and_at_most_one_host_read(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(BERT, head=True)
    batch = one_row(BERT, inputs(BERT), 0)
    reads: list[str] = []
    masks: list[object] = []
    for layer in model.bert.encoder.layer:
        layer.attention.register_forward_pre_hook(lambda m, args, kw: masks.append((*args, None)[1]), with_kwargs=True)
    attach(model, PruningPolicy(stages=(*CUT.stages, Stage(3, "cls_attention", keep=0.3))))
    for name in ("tolist", "item", "__bool__", "__int__", "__float__"):
        real = getattr(torch.Tensor, name)
        monkeypatch.setattr(torch.Tensor, name, lambda self, *a, _r=real, _n=name: reads.append(_n) or _r(self, *a))
    forward(model, BERT, batch)
    assert reads == ["tolist"]
    assert masks == [None] * 4


def test_a_batch_that_becomes_full_gets_no_mask() -> None:
    model, batch = build(BERT, head=True), inputs(BERT, (20, 19))
    masks = []
    model.bert.encoder.layer[3].attention.register_forward_pre_hook(lambda m, args: masks.append(args[1]))
    with attach(model, PruningPolicy(stages=(Stage(1, "cls_attention", keep=0.5),))):
        forward(model, BERT, batch)
    assert masks == [None]


def test_a_trace_tells_scores_even_where_nothing_leaves() -> None:
    model, batch = build(BERT, head=True), inputs(BERT, (20, 14))
    stages = (Stage("input", "random", threshold=0.0), Stage(1, "norm", keep=1.0), Stage(2, "cls_attention", mass=0.5))
    with attach(model, PruningPolicy(stages=stages)) as handle, handle.record() as trace:
        forward(model, BERT, batch)
        forward(model, BERT, batch)  # each forward writes anew
    assert [one.stage for one in trace.scored] == [0, 2], "a share of all is not scored"
    assert [step.stage for step in trace.stages] == [2]
    for one in trace.scored:
        assert one.scores.shape == one.protected.shape == (2, 20)
        assert one.valid is not None
        assert one.valid.sum(1).tolist() == [20, 14]


def test_protection_by_pattern_mask_and_count() -> None:
    model, batch = build(BERT, head=True), inputs(BERT, (20, 14))
    ids = batch["input_ids"]
    policy = PruningPolicy(stages=(Stage(2, "random", keep=0.1),), protect=Protect(pattern=r"^[A-Z]"))
    with attach(model, policy, tokenizer=_Tokenizer()) as handle, handle.record() as trace:
        forward(model, BERT, batch)
        for row, kept in enumerate(trace.stages[0].kept):
            real = int(batch["attention_mask"][row].sum())
            assert kept == [p for p in range(real) if int(ids[row, p]) in (1, 2) or int(ids[row, p]) >= 60 or p == 0]
    mine = torch.zeros_like(ids, dtype=torch.bool)
    mine[0, 5], mine[1, 6], mine[1, 18] = True, True, True  # the last one is padding
    with attach(model, PruningPolicy(stages=(Stage(2, "random", keep=0.01),))) as handle:
        with handle.protecting(mine), handle.record() as trace:
            forward(model, BERT, batch)
        assert list(trace.stages[0].kept) == [[0, 5, 19], [0, 6, 13]]
        with handle.protecting(mine[:, :5]), pytest.raises(DataError):
            forward(model, BERT, batch)


@pytest.mark.parametrize("family", ["BERT", "CLIP text", "Llama"])
@pytest.mark.parametrize("protect", [Protect(), Protect(prefix=3, special_tokens=False), Protect(pattern="^Name")])
def test_the_count_of_protected_tokens_is_the_engines(family: str, protect: Protect) -> None:
    recipe = tiny(family)
    model, batch = build(recipe, head=True), one_row(recipe, inputs(recipe), 0)
    batch["input_ids"][0, 4] = _Tokenizer.unk_token_id
    policy = PruningPolicy(stages=(Stage(1, "random", keep=0.01),), protect=protect)
    with attach(model, policy, tokenizer=_Tokenizer()) as handle, handle.record() as trace, torch.no_grad():
        model(**batch)
    counted = protected_count(model, policy, _Tokenizer(), batch["input_ids"][0])
    assert [counted] == trace.stages[0].tokens
    assert 4 not in trace.stages[0].kept[0]


def test_pattern_without_tokenizer_is_refused() -> None:
    policy = PruningPolicy(stages=(Stage(1, "random", keep=0.5),), protect=Protect(pattern="x"))
    with pytest.raises(PolicyError, match="tokenizer"):
        attach(build(BERT), policy)


def test_unknown_special_tokens_are_warned_about() -> None:
    model = build(BERT)
    for name in ("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"):
        setattr(model.config, name, None)
    with pytest.warns(UserWarning, match="special tokens"):
        attach(model, CUT)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attach(build(BERT), CUT, tokenizer=_Tokenizer())


@pytest.mark.parametrize("family", [r.family for r in TINY])
def test_first_token_shortcut(family: str) -> None:
    recipe = tiny(family)
    model, batch = build(recipe, head=True), inputs(recipe)
    policy = PruningPolicy(last_layer="first_token")
    if not (family_of(model).first_rows and family_of(model).reads_first_token(model)):
        with pytest.raises(UnsupportedModelError, match="first_token"):
            attach(model, policy)
        return
    got, _ = pruned(model, recipe, policy, batch)
    torch.testing.assert_close(got, forward(model, recipe, batch), atol=1e-5, rtol=0)
    with attach(model, policy):
        sizes = []
        hook = family_of(model).layers(model)[-1].register_forward_hook(lambda m, a, out: sizes.append(out.shape[1]))
        forward(model, recipe, batch)
        hook.remove()
    assert sizes[-1] == 1
    with pytest.raises(UnsupportedModelError):
        attach(build(recipe), policy)


@pytest.mark.parametrize(
    ("stages", "error"),
    [
        ((Stage(9, "random", keep=0.5),), PolicyError),
        ((Stage(0, "cls_attention", keep=0.5),), PolicyError),
        (("input", "cls_attention"), PolicyError),
        (("input", "norm"), PolicyError),
        ((Stage("input", "random", keep=0.5, reduce="fuse"),), PolicyError),
        ((Stage("input", "random", keep=0.5, reduce="merge"),), PolicyError),
        ((Stage(1, "nonsense", keep=0.5),), ConfigError),
        ((Stage(1, "random", keep=0.5, reduce="nonsense"),), ConfigError),
        ((Stage(1, "random", keep=0.5, params={"sed": 1}),), PolicyError),
        ((Stage(1, "random", keep=0.5, params={"seed": -1}),), PolicyError),
        ((Stage(1, "random", keep=0.5, params={"seed": 1.5}),), PolicyError),
        ((Stage(1, "cls_attention", keep=0.5, params={"value_weighted": 1}),), PolicyError),
        ((Stage(1, "lexicon", keep=0.5),), PolicyError),
        ((Stage(1, "lexicon", keep=0.5, params={"table": "sha256:00"}),), PolicyError),
    ],
)
def test_policies_that_do_not_fit(stages: tuple, error: type[Exception]) -> None:
    if stages[0] == "input":
        stages = (Stage("input", stages[1], keep=0.5),)
    model = build(BERT, head=True)
    with pytest.raises(error):
        attach(model, PruningPolicy(stages=stages))
    assert attached_handle(model) is None
    assert model.config._attn_implementation == "sdpa"


def test_unsupported_families_name_the_reason_and_the_alternatives() -> None:
    import transformers as hf

    for config in (hf.SwinConfig(), hf.BeitConfig(), hf.GPT2Config(), hf.MPNetConfig(), hf.CLIPConfig()):
        with pytest.raises(UnsupportedModelError) as caught:
            family_of(config)
        assert "because" in str(caught.value) or ": " in caught.value.message
        assert "BERT" in caught.value.hint
    with pytest.raises(UnsupportedModelError, match="decoder"):
        family_of(hf.BertConfig(is_decoder=True))
    with pytest.raises(UnsupportedModelError, match="layer groups"):
        family_of(hf.AlbertConfig(inner_group_num=2))


def test_ids_are_needed_by_static_scorers_at_run_time() -> None:
    model = build(BERT, head=True)
    attach(model, PruningPolicy(stages=(stage("lexicon"),)), tables=tables()[0])
    with pytest.raises(PolicyError, match="input_ids"):
        model(inputs_embeds=torch.randn(1, 9, 32))
    other = build(BERT, head=True, seed=2)
    attach(other, PruningPolicy(stages=(Stage("input", "random", keep=0.5),)))
    assert other(inputs_embeds=torch.randn(1, 9, 32)).logits.shape == (1, 3)


def test_thresholds_and_mass_against_a_loop() -> None:
    model, batch = build(BERT, head=True), inputs(BERT)
    for selector in ({"threshold": 1.0}, {"mass": 0.5}, {"threshold": 1.0, "multiple": 4}):
        policy = PruningPolicy(stages=(Stage(2, "norm", **selector),))
        _, trace = pruned(model, BERT, policy, batch)
        step = trace.stages[0]
        for row, before in enumerate(step.before):
            score = step.scores[row, : len(before)]
            if "mass" in selector:
                order, total, chosen = score.argsort(descending=True).tolist(), 0.0, set()
                for place in order:
                    if total >= 0.5 * float(score.sum()) - 1e-5:
                        break
                    chosen.add(place)
                    total += float(score[place])
            else:
                chosen = {p for p in before if float(score[p] / score.mean()) >= 1.0}
            wanted = len(chosen | {0, len(before) - 1})
            if "multiple" in selector:
                wanted = min(len(before), -(-wanted // 4) * 4)
            assert step.tokens[row] == wanted


def test_restored_rows_keep_their_last_state_and_merged_rows_their_owner() -> None:
    model, batch = build(BERT), one_row(BERT, inputs(BERT), 0)
    states = []
    for layer in model.encoder.layer:
        layer.register_forward_pre_hook(lambda m, args: states.append(args[0]))
    out, trace = pruned(model, BERT, PruningPolicy(stages=(Stage(2, "random", keep=0.5),)), batch)
    gone = sorted(set(range(20)) - set(trace.stages[0].kept[0]))
    dense = build(BERT)
    with torch.no_grad():
        want = dense(**batch, output_hidden_states=True).hidden_states[2]
    assert torch.equal(out[0, gone], want[0, gone])
    merged, trace = pruned(model, BERT, PruningPolicy(stages=(Stage(2, "random", keep=0.5, reduce="merge"),)), batch)
    rows = {tuple(row.tolist()) for row in merged[0]}
    assert merged.shape == (1, 20, 32)
    assert len(rows) == 10  # twenty positions share the ten states that are left


def test_gradient_checkpointing_is_refused() -> None:
    model = build(BERT, head=True)
    model.gradient_checkpointing_enable()
    attach(model, CUT)
    model.train()
    with pytest.raises(PolicyError, match="checkpointing"):
        model(**inputs(BERT))

"""torch.compile and torch.export at a fixed length; four named cells here, the rest in ``make test-slow``."""

import pytest
import torch

from autoprune.errors import PolicyError
from autoprune.policy import Protect, PruningPolicy, Stage
from autoprune.pruning import attach
from autoprune.testing.suite import main_output, stage, tables
from autoprune.testing.tiny import build, inputs, one_row, tiny

NAMED = [
    ("compile", "BERT", "cls_attention", "fuse", "first_token"),
    ("compile", "BERT", "lexicon", "drop", "full"),
    ("export", "DistilBERT", "received_attention", "drop", "full"),
    ("export", "ViT", "norm", "merge", "full"),
]
REST = [
    (how, family, scorer, reducer, "full")
    for how in ("compile", "export")
    for family in ("BERT", "RoBERTa", "ALBERT", "ModernBERT", "DeBERTa-v2", "T5 encoder", "ViT")
    for scorer, reducer in (
        ("random", "drop"),
        ("similarity", "fuse"),
        ("entropy", "drop"),
        ("query_attention", "drop"),
    )
    if not (family == "DeBERTa-v2" and scorer in ("entropy", "query_attention"))
]


def _check(how: str, family: str, scorer: str, reducer: str, last: str) -> None:
    recipe = tiny(family)
    model = build(recipe, head=True)
    batch = one_row(recipe, inputs(recipe), 0)
    policy = PruningPolicy(stages=(stage(scorer, reducer, 1, 0.5), stage(scorer, reducer, 3, 0.3)), last_layer=last)
    with attach(model, policy, tables=tables()[0]), torch.no_grad():
        want = main_output(model(**batch))
        if how == "export":
            ready = torch.export.export(model, (), dict(batch), strict=False).module()
        else:
            torch._dynamo.reset()
            ready = torch.compile(model, fullgraph=True, backend="eager")
        torch.testing.assert_close(main_output(ready(**batch)), want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("how", "family", "scorer", "reducer", "last"), NAMED)
def test_named_cell(how: str, family: str, scorer: str, reducer: str, last: str) -> None:
    _check(how, family, scorer, reducer, last)


@pytest.mark.slow
@pytest.mark.parametrize(("how", "family", "scorer", "reducer", "last"), REST)
def test_rest(how: str, family: str, scorer: str, reducer: str, last: str) -> None:
    _check(how, family, scorer, reducer, last)


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (PruningPolicy(stages=(Stage(1, "norm", threshold=1.0),)), "keep"),
        (PruningPolicy(stages=(Stage(1, "norm", keep=0.5, reduce="merge"),)), "protected"),
        (PruningPolicy(stages=(Stage(1, "saliency", keep=0.5),)), "saliency"),
    ],
)
def test_what_cannot_be_traced_says_so(policy: PruningPolicy, words: str) -> None:
    recipe = tiny("BERT")
    model, batch = build(recipe, head=True), one_row(recipe, inputs(recipe), 0)
    with attach(model, policy), torch.no_grad(), pytest.raises(PolicyError, match=words):
        torch.export.export(model, (), dict(batch), strict=False)


def test_merging_can_be_exported_when_only_a_prefix_is_protected() -> None:
    recipe = tiny("BERT")
    model, batch = build(recipe, head=True), one_row(recipe, inputs(recipe), 0)
    policy = PruningPolicy(stages=(Stage(1, "norm", keep=0.5, reduce="merge"),), protect=Protect(special_tokens=False))
    with attach(model, policy), torch.no_grad():
        want = model(**batch).logits
        ready = torch.export.export(model, (), dict(batch), strict=False).module()
        torch.testing.assert_close(ready(**batch).logits, want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("how", ["compile", "export"])
def test_a_padded_batch_is_never_run_without_its_mask(how: str) -> None:
    recipe = tiny("BERT")
    model, full, padded = build(recipe, head=True), inputs(recipe, (9, 9)), inputs(recipe, (9, 5))
    policy = PruningPolicy(stages=(stage("random", "drop", 1, 0.5),))
    with attach(model, policy), torch.no_grad():
        if how == "export":
            ready = torch.export.export(model, (), dict(full), strict=False).module()
        else:
            torch._dynamo.reset()
            ready = torch.compile(model, fullgraph=True, backend="eager")
        torch.testing.assert_close(ready(**full).logits, model(**full).logits, atol=1e-5, rtol=1e-5)
        with pytest.raises(RuntimeError, match="without padding"):
            ready(**padded)


def test_exporters_that_drop_assertions_get_no_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny("BERT")
    model, full = build(recipe, head=True), inputs(recipe, (9, 9))
    with attach(model, PruningPolicy(stages=(stage("random", "drop", 1, 0.5),))), torch.no_grad():
        with pytest.raises(PolicyError, match="padded"):
            torch.jit.trace(lambda ids, mask: model(input_ids=ids, attention_mask=mask).logits, tuple(full.values()))
        monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
        with pytest.raises(PolicyError, match="padded"):
            torch.export.export(model, (), dict(full), strict=False)
        torch.export.export(model, (), {"input_ids": full["input_ids"]}, strict=False)

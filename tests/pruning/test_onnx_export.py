"""Exported graphs: the eager model's logits, from hidden states that are as short; the rest in ``make test-slow``."""

from pathlib import Path
from typing import Any

import pytest
import torch

from autoprune._registry import REDUCERS, SCORERS
from autoprune.errors import DataError, MissingExtraError, PolicyError, UnsupportedModelError
from autoprune.policy import Protect, PruningPolicy, Stage
from autoprune.pruning import attach, onnx_export
from autoprune.pruning.onnx_export import check_exportable, export_onnx, graph_inputs
from autoprune.testing.suite import main_output, stage, tables
from autoprune.testing.tiny import build, inputs, one_row, tiny

onnx: Any = pytest.importorskip("onnx", reason="the extra onnx is not installed")
onnxruntime: Any = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

NAMED = [
    ("BERT", "cls_attention", "fuse", "first_token"),
    ("BERT", "lexicon", "drop", "full"),
    ("DistilBERT", "received_attention", "merge", "full"),
]
REST = [
    *(("BERT", scorer, "drop", "full") for scorer in SCORERS.names() if scorer != "saliency"),
    *(("BERT", "norm", reducer, "full") for reducer in REDUCERS.names()),
    *(
        (family, "similarity", "drop", "full")
        for family in ("RoBERTa", "XLM-R", "ELECTRA", "ALBERT", "ModernBERT", "DeBERTa-v2")
    ),
]


def _policy(scorer: str, reducer: str, last: str) -> PruningPolicy:
    stages = (stage(scorer, reducer, 1, 0.5), stage(scorer, reducer, 3, 0.3))
    return PruningPolicy(stages=stages, last_layer=last)  # type: ignore[arg-type]


def _lengths(path: Path, width: int) -> list[int]:
    """Return the rows of the feed-forward states (1, rows, width) in the order of the graph."""
    found = []
    for value in onnx.shape_inference.infer_shapes(onnx.load(path)).graph.value_info:
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        if len(shape) == 3 and shape[2] == width and shape[1] not in found:
            found.append(shape[1])
    return found


def _check(folder: Path, family: str, policy: PruningPolicy, length: int = 20) -> list[int]:
    recipe = tiny(family)
    model, path = build(recipe, head=True), folder / "model.onnx"
    batch = one_row(recipe, inputs(recipe, (length,)), 0)
    with attach(model, policy, tables=tables()[0]) as handle, torch.no_grad():
        with handle.record() as trace:
            want = main_output(model(**batch))
        export_onnx(model, batch, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feed = {name: tensor.numpy() for name, tensor in graph_inputs(batch).items()}
    got = torch.from_numpy(session.run(["logits"], feed)[0])
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)
    return trace.layer_lengths


@pytest.mark.parametrize(("family", "scorer", "reducer", "last"), NAMED)
def test_named_cell(tmp_path: Path, family: str, scorer: str, reducer: str, last: str) -> None:
    _check(tmp_path, family, _policy(scorer, reducer, last))


@pytest.mark.slow
@pytest.mark.parametrize(("family", "scorer", "reducer", "last"), REST)
def test_rest(tmp_path: Path, family: str, scorer: str, reducer: str, last: str) -> None:
    _check(tmp_path, family, _policy(scorer, reducer, last))


def test_tokens_are_gone_inside_the_graph(tmp_path: Path) -> None:
    lengths = _check(tmp_path, "BERT", _policy("norm", "drop", "full"))
    assert lengths == [20, 10, 10, 6]
    assert _lengths(tmp_path / "model.onnx", 48) == [20, 10, 6]


def test_protected_tokens_decide_the_count_where_eager_has_them_do_so(tmp_path: Path) -> None:
    policy = PruningPolicy(stages=(Stage("input", "truncate", keep=1e-9),))
    assert _check(tmp_path, "BERT", policy) == [2, 2, 2, 2]
    assert _lengths(tmp_path / "model.onnx", 48) == [2]


def test_dense_has_no_mask_to_pay_for(tmp_path: Path) -> None:
    recipe = tiny("BERT")
    model, path = build(recipe, head=True), tmp_path / "model.onnx"
    batch = one_row(recipe, inputs(recipe), 0)
    export_onnx(model, batch, path)
    graph = onnx.load(path).graph
    assert [each.name for each in graph.input] == ["input_ids"]
    assert not any(node.op_type == "Where" for node in graph.node)
    assert model.config._attn_implementation == "sdpa"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        want = model(**batch).logits
    got = torch.from_numpy(session.run(None, {"input_ids": batch["input_ids"].numpy()})[0])
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (PruningPolicy(stages=(Stage(1, "norm", threshold=1.0),)), "keep"),
        (PruningPolicy(stages=(Stage(1, "norm", mass=0.9),)), "keep"),
        (PruningPolicy(stages=(Stage(1, "saliency", keep=0.5),)), "saliency"),
    ],
)
def test_what_no_graph_can_hold_says_so(policy: PruningPolicy, words: str) -> None:
    model = build(tiny("BERT"), head=True)
    with attach(model, policy), pytest.raises(PolicyError, match=words):
        check_exportable(model)


def test_padding_is_refused(tmp_path: Path) -> None:
    recipe = tiny("BERT")
    with pytest.raises(DataError, match="padding"):
        export_onnx(build(recipe, head=True), inputs(recipe), tmp_path / "model.onnx")


def test_what_the_exporter_cannot_follow_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no ONNX function\nfor aten.odd")

    recipe = tiny("BERT")
    monkeypatch.setattr(torch.onnx, "export", refuse)
    policy = PruningPolicy(stages=(Stage(1, "norm", keep=0.5),), protect=Protect(special_tokens=False))
    model, batch = build(recipe, head=True), one_row(recipe, inputs(recipe), 0)
    with attach(model, policy), pytest.raises(UnsupportedModelError, match=r"norm.*no ONNX function for aten\.odd"):
        export_onnx(model, batch, tmp_path / "model.onnx")


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"onnxscript.*autoprune\[onnx\]"):
        onnx_export.require_onnx()

"""ONNX Runtime as a runtime: what is run, what is exported when, and what is refused. Nothing is timed."""

import gc
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from autoprune.errors import ConfigError, DataError, PolicyError
from autoprune.latency import onnx_files
from autoprune.latency import probe as room
from autoprune.latency.memory import forward_peak_bytes
from autoprune.latency.onnx_runner import OnnxRunner
from autoprune.latency.probe import probe
from autoprune.latency.runners import make_runner, prepare_model
from autoprune.latency.workload import Workload
from autoprune.policy import PruningPolicy, Stage
from autoprune.pruning.attach import attach
from autoprune.pruning.twin import twin

pytest.importorskip("onnx", reason="the extra onnx is not installed")
pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

WORKLOAD = Workload.fixed(16, 1, runtime="onnxruntime")
POLICY = PruningPolicy((Stage(1, "cls_attention", keep=0.5, reduce="fuse"),), last_layer="first_token")


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tokens of each export."""
    made: list[int] = []
    export = onnx_files.export_onnx

    def counted(model: Any, batch: Any, path: Path, guarded: Any) -> None:
        made.append(batch["input_ids"].shape[1])
        export(model, batch, path, guarded)

    monkeypatch.setattr(onnx_files, "export_onnx", counted)
    return made


def test_dense_and_pruned_give_the_logits_of_pytorch(bert: Any, make_batch: Any) -> None:
    assert prepare_model(bert, WORKLOAD) is bert
    batch, pruned = make_batch(16), twin(bert)
    dense = make_runner(bert, WORKLOAD, [batch])
    with attach(pruned, POLICY), torch.no_grad():
        runner = make_runner(pruned, WORKLOAD, [batch])
        want = pruned(**batch).logits
    assert isinstance(runner, OnnxRunner)
    torch.testing.assert_close(torch.from_numpy(runner(batch)), want, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        plain = bert(**batch).logits
    torch.testing.assert_close(torch.from_numpy(dense(batch)), plain, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(plain, want)


def test_dense_is_exported_once_per_shape_and_forgotten_with_its_model(
    make_bert: Any, make_batch: Any, exports: list[int]
) -> None:
    model, said = make_bert(), []
    first, again, short = make_batch(16), make_batch(16, seed=1), make_batch(8)
    make_runner(model, WORKLOAD, [first, again, short], said.append)
    runner = make_runner(model, WORKLOAD, [first])
    assert exports == [16, 8]
    assert said == ["exports dense at 16 tokens to ONNX", "exports dense at 8 tokens to ONNX"]
    assert not torch.equal(torch.from_numpy(runner(first)), torch.from_numpy(runner(again)))
    folder = onnx_files._KEPT[model].path
    assert len(list(folder.iterdir())) == 2
    del model, runner
    gc.collect()
    assert not folder.exists()


def test_the_graph_of_a_policy_is_not_kept(bert: Any, make_batch: Any, exports: list[int]) -> None:
    batch = make_batch(16)
    for policy in (POLICY, PruningPolicy((Stage(1, "norm", keep=0.5),))):
        with attach(bert, policy), torch.no_grad():
            got, want = make_runner(bert, WORKLOAD)(batch), bert(**batch).logits
        torch.testing.assert_close(torch.from_numpy(got), want, atol=1e-4, rtol=1e-4)
    assert exports == [16, 16]
    assert bert not in onnx_files._KEPT


def test_session_takes_the_workloads_threads(bert: Any, make_batch: Any) -> None:
    batch = make_batch(8)
    runner = OnnxRunner(bert, Workload.fixed(8, 1, runtime="onnxruntime", threads=2))
    runner.prepare([batch])
    options = runner._ready[id(batch)][1].get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)


def test_policies_without_a_fixed_shape_are_refused_before_any_export(bert: Any, exports: list[int]) -> None:
    with attach(bert, PruningPolicy((Stage(1, "norm", threshold=1.0),))), pytest.raises(PolicyError, match="keep"):
        make_runner(bert, WORKLOAD)
    assert not exports


def test_padded_inputs_are_refused(bert: Any, make_batch: Any) -> None:
    batch = make_batch(8)
    batch["attention_mask"][0, -1] = 0
    with pytest.raises(DataError, match="padding"):
        make_runner(bert, WORKLOAD)(batch)


@pytest.mark.parametrize(
    "options", [{"dtype": "int8"}, {"dtype": "bfloat16"}, {"device": "cuda"}, {"attention": "flex_attention"}]
)
def test_what_onnxruntime_is_not_timed_with_is_refused(options: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"(?i)onnx"):
        Workload.fixed(8, 1, runtime="onnxruntime", **options)


def test_probe_needs_few_exports(
    bert: Any, make_batch: Any, exports: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_APART", math.inf)  # a busy machine would have the floor measured again
    batch, said = make_batch(32), []
    workload = Workload.fixed(32, 1, runtime="onnxruntime")
    found = probe(
        bert, [batch], workload, scorers=["norm", "saliency"], reducers=["fuse"], tokenize=lambda _: make_batch(30),
        progress=said.append,
    )  # fmt: skip
    assert [point.tokens for point in found.sweep] == [2, 4, 8, 16, 24, 32]
    assert found.cost_table.n_layers == 3
    assert len(found.cost_table.first_token) == 2
    assert set(found.scorer_ms) == {"norm@layer"}
    assert any("saliency: its cost was not measured" in note for note in found.notes)
    assert found.end_to_end_ms is not None
    assert 30 not in exports
    assert len(exports) == 6 + 1 + 2 + 3  # dense, floor, shortcut, methods
    assert sum(text.startswith("exports ") for text in said) == len(exports)


def test_peak_memory_is_that_of_a_process_without_torch(bert: Any) -> None:
    peak = forward_peak_bytes(bert, WORKLOAD, 16)
    assert peak is None or 10 * 2**20 < peak < 300 * 2**20

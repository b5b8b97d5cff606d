import importlib.util
from typing import Any

import pytest
import torch

from autoprune.errors import ConfigError, MissingExtraError
from autoprune.latency.runners import device_timer, make_runner, n_tokens, prepare_model, shorten
from autoprune.latency.workload import Workload
from autoprune.policy import PruningPolicy, Stage
from autoprune.pruning.attach import attach
from autoprune.pruning.twin import twin


def test_a_model_that_fits_is_returned_itself(bert: Any) -> None:
    assert prepare_model(bert, Workload.fixed(8, 1)) is bert


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_other_precision_leaves_the_model_and_is_near(bert: Any, make_batch: Any, dtype: str) -> None:
    before = {name: tensor.clone() for name, tensor in bert.state_dict().items()}
    workload, batch = Workload.fixed(16, 1, dtype=dtype), make_batch(16)
    other = prepare_model(bert, workload)
    assert other is not bert
    assert all(torch.equal(tensor, before[name]) for name, tensor in bert.state_dict().items())
    near = make_runner(other, workload)(batch).logits.float()
    exact = make_runner(bert, workload)(batch).logits
    assert not torch.equal(near, exact)
    torch.testing.assert_close(near, exact, atol=0.05, rtol=0.05)
    assert prepare_model(other, workload) is other


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_policies_run_in_other_precision(bert: Any, make_batch: Any, dtype: str) -> None:
    workload = Workload.fixed(16, 1, dtype=dtype)
    model = prepare_model(bert, workload)
    pruned, policy = twin(model), PruningPolicy((Stage(1, "cls_attention", keep=0.5, reduce="fuse"),))
    with attach(pruned, policy) as handle, handle.record() as trace:
        logits = make_runner(pruned, workload)(make_batch(16)).logits
    assert trace.layer_lengths == [16, 8, 8]
    assert torch.isfinite(logits.float()).all()


def test_attention_backend_is_set(bert: Any) -> None:
    found = prepare_model(bert, Workload.fixed(8, 1, attention="eager"))
    assert found.config._attn_implementation == "eager"


def test_onnxruntime_needs_its_extra(bert: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    workload = Workload.fixed(8, 1, runtime="onnxruntime")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"autoprune\[onnx\]"):
        prepare_model(bert, workload)
    with pytest.raises(MissingExtraError, match=r"autoprune\[onnx\]"):
        make_runner(bert, workload)


def test_a_compiled_policy_is_no_compiled_dense(bert: Any, make_batch: Any) -> None:
    """Torch hands one class's graph to the next model of it: hooks are no part of what it compares."""
    workload, batch, pruned = Workload.fixed(32, 1, runtime="compile"), make_batch(32), twin(bert)
    dense = make_runner(bert, workload)(batch).logits
    with attach(pruned, PruningPolicy((Stage("input", "random", keep=0.5),))), torch.inference_mode():
        eager = pruned(**batch).logits
        compiled = make_runner(pruned, workload)(batch).logits
    assert (compiled - eager).abs().max() < 0.05 * (eager - dense).abs().max()


def test_a_torch_that_cannot_keep_graphs_apart_is_refused(bert: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda model: model)
    with pytest.raises(ConfigError, match=r"torch 2\.13"):
        make_runner(bert, Workload.fixed(8, 1, runtime="compile"))


def test_forward_needs_no_gradients(bert: Any, make_batch: Any) -> None:
    assert make_runner(bert, Workload.fixed(8, 1))(make_batch(8)).logits.is_inference()


def test_inputs_are_moved_once(bert: Any, make_batch: Any) -> None:
    moved: list[str] = []
    batch = make_batch(8)
    tensor = batch["input_ids"]
    batch["input_ids"] = type(
        "Spy", (), {"to": lambda self, device: moved.append(device) or tensor, "shape": tensor.shape}
    )()
    workload = Workload.fixed(8, 1, device="cpu:0")  # any name but "cpu" takes the way of accelerators
    run = make_runner(bert, workload)
    run(batch)
    run(batch)
    assert moved == ["cpu:0"]


def test_cpu_uses_the_wall_clock() -> None:
    assert device_timer("cpu") is None


def test_shorten_keeps_first_and_last_token(make_batch: Any) -> None:
    batch = make_batch(16, rows=2)
    short = shorten(batch, 5)
    assert short["input_ids"].shape == short["attention_mask"].shape == (2, 5)
    assert torch.equal(short["input_ids"][:, :4], batch["input_ids"][:, :4])
    assert (short["input_ids"][:, -1] == 2).all()
    assert shorten(batch, 1)["input_ids"].shape == (2, 1)
    assert n_tokens(shorten(batch, 99)) == 16


@pytest.mark.gpu
def test_cuda_runner_times_with_events(bert: Any, make_batch: Any) -> None:
    workload = Workload.fixed(16, 1, device="cuda")
    model = prepare_model(bert, workload)
    timer = device_timer("cuda")
    assert timer is not None
    assert timer(make_runner(model, workload), make_batch(16)) > 0

"""Models made ready for a workload, and the runners that the meter times. Torch is loaded on use."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from autoprune.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from autoprune.latency.meter import Runner, Timer
    from autoprune.latency.workload import Workload


def prepare_model(model: PreTrainedModel, workload: Workload) -> PreTrainedModel:
    """Return the model in the workload's dtype, on its device, with its attention backend, in eval mode.

    Call it before ``twin`` and ``attach``. A model that fits already is returned itself; one whose
    numbers change is copied, so that the caller's keeps its precision.

    Args:
        model: In float32, without a policy.
        workload: What will be timed.

    Raises:
        ConfigError: The device is not there, the attention backend is not, or this torch cannot quantise here.
        MissingExtraError: The runtime is onnxruntime and the extra is not installed.
    """
    import torch

    check_runtime(workload.runtime)
    _check_device(workload.device)
    if workload.dtype == "bfloat16" and model.dtype != torch.bfloat16:
        model = copy.deepcopy(model).bfloat16()
    elif workload.dtype == "int8":
        model = _quantised(model)
    if workload.device != "cpu":
        model = model.to(workload.device)  # type: ignore[arg-type]
    if getattr(model.config, "_attn_implementation", workload.attention) != workload.attention:
        _use_attention(model, workload.attention)
    model.eval()  # type: ignore[no-untyped-call]
    return model


def _use_attention(model: PreTrainedModel, attention: str) -> None:
    try:
        model.set_attn_implementation(attention)
    except (ImportError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"This model cannot run with {attention} attention here: {reason}", "Use --attention sdpa or eager."
        ) from error


def check_runtime(runtime: str) -> None:
    """Raise ``MissingExtraError`` if the runtime needs packages that are not installed."""
    if runtime == "onnxruntime":
        from autoprune.pruning.onnx_export import require_onnx

        require_onnx()


def _check_device(device: str) -> None:
    import torch

    kind = device.split(":")[0]
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError("There is no CUDA device for this torch.", "Use --device cpu, or install torch for CUDA.")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("There is no MPS device for this torch.", "Use --device cpu.")


def _quantised(model: PreTrainedModel) -> PreTrainedModel:
    """Return a copy whose linear layers hold int8 weights and quantise their inputs as they come."""
    import warnings

    import torch
    from torch.ao.nn.quantized.dynamic import Linear as QuantisedLinear
    from torch.ao.quantization import quantize_dynamic

    if any(isinstance(module, QuantisedLinear) for module in model.modules()):
        return model
    if "none" in torch.backends.quantized.engine:
        raise ConfigError("This torch has no engine for int8 on this machine.", "Use --dtype float32 or bfloat16.")
    with warnings.catch_warnings():
        # torch.ao's quantisation is deprecated in favour of torchao, which needs a package more.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", UserWarning)
        quantised: PreTrainedModel = quantize_dynamic(  # type: ignore[no-untyped-call]
            model, {torch.nn.Linear}, dtype=torch.qint8
        )
    return quantised


def make_runner(
    model: PreTrainedModel,
    workload: Workload,
    inputs: Iterable[Mapping[str, Tensor]] = (),
    say: Callable[[str], None] | None = None,
) -> Runner:
    """Return a function that runs one synchronised forward of the model on one input.

    Attach the policy first: with the runtime ``compile`` the model is compiled here, with ``onnxruntime`` it is
    exported. Inputs are moved to the device at their first use and kept there, so that later runs time the
    forward alone.

    Args:
        model: Prepared by ``prepare_model``; a policy may be attached.
        workload: Device and runtime are read.
        inputs: What will be run, as far as it is known: compiling or exporting a shape takes seconds, which then
            pass here and not in the first run.
        say: Told in words what takes seconds.

    Raises:
        PolicyError: The runtime is onnxruntime, and no fixed graph can hold the policy.
        UnsupportedModelError: The runtime is onnxruntime, and the model or a method cannot be exported.
    """
    if workload.runtime == "onnxruntime":
        from autoprune.latency.onnx_runner import OnnxRunner

        runner = OnnxRunner(model, workload)
        runner.prepare(inputs, say)
        return runner
    run = _torch_runner(model, workload)
    if workload.runtime == "compile":
        for batch in inputs:
            run(batch)
    return run


def _torch_runner(model: PreTrainedModel, workload: Workload) -> Runner:
    import torch

    forward: Callable[..., Any] = _compiled(model) if workload.runtime == "compile" else model
    if workload.device == "cpu":

        def run(batch: Mapping[str, Tensor]) -> Any:
            with torch.inference_mode():
                return forward(**batch)

        return run
    wait = synchronizer(workload.device)
    moved: dict[int, tuple[Any, dict[str, Tensor]]] = {}

    def run_on_device(batch: Mapping[str, Tensor]) -> Any:
        if id(batch) not in moved:
            # The batch is kept too: its id stays its own as long as it lives.
            moved[id(batch)] = (batch, {name: tensor.to(workload.device) for name, tensor in batch.items()})
        with torch.inference_mode():
            out = forward(**moved[id(batch)][1])
        wait()
        return out

    return run_on_device


def _compiled(model: PreTrainedModel) -> Callable[..., Any]:
    """Return the compiled model, with graphs of its own.

    Torch does not look at a module's hooks when it looks for a graph that is there already (its
    ``skip_nnmodule_hook_guards``): without isolation a policy would run the graph that was compiled for dense.

    Raises:
        ConfigError: This torch cannot keep graphs apart.
    """
    import inspect

    import torch

    if "isolate_recompiles" not in inspect.signature(torch.compile).parameters:
        raise ConfigError(
            f"The runtime compile needs torch 2.13 or newer; this is {torch.__version__}.",
            "Update torch, or use --runtime eager.",
        )
    isolate: dict[str, Any] = {"isolate_recompiles": True}  # its overloads do not know it yet
    compiled: Callable[..., Any] = torch.compile(model, **isolate)
    return compiled


def synchronizer(device: str) -> Callable[[], object]:
    """Return a function that waits until the device is idle."""
    import torch

    kind = device.split(":")[0]
    if kind == "cuda":
        return lambda: torch.cuda.synchronize(device)
    if kind == "mps":
        return torch.mps.synchronize
    return lambda: None


def device_timer(device: str) -> Timer | None:
    """Return a timer with CUDA events for CUDA devices, None (the wall clock) for others."""
    import torch

    from autoprune.latency.meter import event_timer

    if not device.startswith("cuda"):
        return None
    new_event: Callable[..., Any] = torch.cuda.Event
    return event_timer(lambda: new_event(enable_timing=True), synchronizer(device))


def shorten(batch: Mapping[str, Tensor], tokens: int) -> dict[str, Tensor]:
    """Return a text input cut to ``tokens``: its first tokens and its last, which is a special token.

    Args:
        batch: Tensors of shape (rows, n); tensors of other lengths stay as they are.
        tokens: At least 1; an input that is short enough already is returned as it is.
    """
    import torch

    length = max(tensor.shape[1] for tensor in batch.values() if tensor.dim() == 2)
    if tokens >= length:
        return dict(batch)

    def cut(tensor: Tensor) -> Tensor:
        if tensor.dim() < 2 or tensor.shape[1] != length:
            return tensor
        return torch.cat([tensor[:, : tokens - 1], tensor[:, -1:]], dim=1) if tokens > 1 else tensor[:, :1]

    return {name: cut(tensor) for name, tensor in batch.items()}


def n_tokens(batch: Mapping[str, Tensor]) -> int:
    """Return the tokens per row of an input, padding included."""
    return int(next(iter(batch.values())).shape[1] if "input_ids" not in batch else batch["input_ids"].shape[1])

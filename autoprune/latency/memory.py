"""Peak memory of a forward: CUDA's allocator, or the resident-set high-water mark of a fresh process."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune.latency.fresh import high_water_bytes, reset_high_water, run_fresh
from autoprune.latency.runners import make_runner, prepare_model
from autoprune.latency.workload import Workload
from autoprune.policy import PruningPolicy
from autoprune.pruning.tables import TableSet

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


def forward_peak_bytes(
    model: PreTrainedModel,
    workload: Workload,
    tokens: int,
    policy: PruningPolicy | None = None,
    tables: TableSet | None = None,
) -> int | None:
    """Return the most memory held while the model runs one input.

    On CUDA: the allocator's peak in this process. On the CPU: the resident-set high-water mark of a
    fresh process that builds the same architecture with random weights (memory does not depend on
    them) and runs it; Python and torch themselves are included. With the runtime onnxruntime the fresh
    process runs the exported graph, without torch.

    Args:
        model: A model class of transformers, without a policy.
        workload: Dtype, device, batch size and threads are read.
        tokens: Tokens per row.
        policy: Attached in the fresh process.
        tables: Tables that it refers to.

    Returns:
        Bytes, or None where it cannot be measured: another class of model, or a system without the counter.
    """
    if workload.device.startswith("cuda"):
        return _cuda_peak(model, workload, tokens, policy, tables)
    if workload.runtime == "onnxruntime":
        return _session_peak(model, workload, tokens, policy, tables)
    kind = type(model)
    if workload.device != "cpu" or not kind.__module__.startswith("transformers."):
        return None
    with tempfile.TemporaryDirectory(prefix="autoprune-memory-") as folder:
        path = Path(folder, "tables.safetensors")
        if tables:
            tables.save(path)
        arguments = {
            "module": kind.__module__,
            "name": kind.__name__,
            "config": {**model.config.to_dict(), "model_type": model.config.model_type},
            "workload": workload.to_dict(),
            "tokens": tokens,
            "policy": policy.to_dict() if policy else None,
            "tables": str(path) if tables else None,
        }
        value = run_fresh(f"{__name__}:forward_peak", arguments, threads=workload.threads).value
    return int(value) if value is not None else None


def forward_peak(
    module: str,
    name: str,
    config: Mapping[str, Any],
    workload: Mapping[str, Any],
    tokens: int,
    policy: Mapping[str, Any] | None,
    tables: str | None = None,
) -> int | None:
    """Build a model with random weights and return the high-water mark of one forward (runs in the fresh process)."""
    import importlib

    import torch
    from transformers import AutoConfig

    wanted = Workload.from_dict(workload)
    torch.set_num_threads(wanted.threads)
    settings = dict(config)
    kind = getattr(importlib.import_module(module), name)
    model = prepare_model(kind(AutoConfig.for_model(settings.pop("model_type"), **settings)), wanted)
    read = TableSet.load(tables) if tables else None
    gc.collect()
    reset_high_water()  # without it, the mark includes building the model
    _run_once(model, wanted, tokens, PruningPolicy.from_dict(policy) if policy else None, read)
    return high_water_bytes()


def _cuda_peak(
    model: PreTrainedModel, workload: Workload, tokens: int, policy: PruningPolicy | None, tables: TableSet | None
) -> int:
    import torch

    torch.cuda.reset_peak_memory_stats(workload.device)
    _run_once(model, workload, tokens, policy, tables)
    return int(torch.cuda.max_memory_allocated(workload.device))


def _session_peak(
    model: PreTrainedModel, workload: Workload, tokens: int, policy: PruningPolicy | None, tables: TableSet | None
) -> int | None:
    from autoprune.latency.onnx_files import exported
    from autoprune.pruning.attach import attach
    from autoprune.pruning.onnx_export import graph_inputs, guarded_tokens
    from autoprune.pruning.twin import twin

    batch = _ones(workload, tokens)
    shapes = {name: list(tensor.shape) for name, tensor in graph_inputs(batch).items()}
    with ExitStack() as stack:
        if policy is not None:
            model = twin(model)
            stack.enter_context(attach(model, policy, tables=tables))
        path = stack.enter_context(exported(model, batch, guarded_tokens(model, batch)))
        arguments = {"path": str(path), "threads": workload.threads, "shapes": shapes}
        value = run_fresh("autoprune.latency.onnx_session:session_peak", arguments, threads=workload.threads).value
    return None if value is None else int(value)


def _ones(workload: Workload, tokens: int) -> dict[str, Tensor]:
    import torch

    ids = torch.ones((workload.batch_size, tokens), dtype=torch.int64)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _run_once(
    model: PreTrainedModel, workload: Workload, tokens: int, policy: PruningPolicy | None, tables: TableSet | None
) -> None:
    from autoprune.pruning.attach import attach

    batch = _ones(workload, tokens)
    runner = make_runner(model, workload)
    if policy is None or policy.is_dense:
        runner(batch)
        return
    with attach(model, policy, tables=tables):
        runner(batch)

"""``model.onnx`` beside an export: the policy inside, held against PyTorch before anybody gets it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from autoprune.deploy.save import ONNX_FILES
from autoprune.errors import InputError, ModelError
from autoprune.latency.onnx_session import open_session
from autoprune.pruning.attach import attach
from autoprune.pruning.onnx_export import export_onnx, graph_inputs
from autoprune.pruning.twin import twin

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from autoprune.latency.workload import Workload
    from autoprune.policy import PruningPolicy
    from autoprune.pruning.tables import TableSet
    from autoprune.tasks.base import Task

_TOLERANCE = 1e-3


class OnnxWriter:
    """Writes the graph of a policy at the shape of a workload, in float32.

    Args:
        task: The model, and texts of the workload's length.
        policy: The policy.
        tables: Tables that it refers to.
        workload: Its batch size and its one length are the graph's.

    Attributes:
        facts: Name of the file, and the shape of each input of the graph; known after a call.

    Raises:
        InputError: The workload has several lengths.
    """

    def __init__(self, task: Task, policy: PruningPolicy, tables: TableSet | None, workload: Workload) -> None:
        if len(set(workload.lengths)) > 1:
            raise InputError(
                "An ONNX graph has one fixed length, and this study's workload has several.",
                "Search again with a fixed --seq-len, or export without --onnx.",
            )
        self._task, self._policy, self._tables, self._workload = task, policy, tables, workload
        self.facts: dict[str, Any] = {}

    def __call__(self, folder: Path) -> None:
        """Write the graph to a folder.

        Raises:
            ModelError: It gives other logits than PyTorch.
            PolicyError: No fixed graph can hold the policy.
            UnsupportedModelError: The model, or a method, cannot be exported.
        """
        path = folder / ONNX_FILES[0]
        inputs = self._task.inputs(self._workload.lengths, self._workload.batch_size)
        tokenizer = self._task.tokenizer
        with attach(twin(self._task.model), self._policy, tokenizer=tokenizer, tables=self._tables) as handle:
            export_onnx(handle.model, inputs[0], path)
            session = open_session(path, self._workload.threads)
            for batch in inputs:
                _compare(session, handle.model, batch)
        shapes = {each.name: list(each.shape) for each in session.get_inputs()}
        self.facts = {"file": path.name, "inputs": shapes}


def _compare(session: Any, model: PreTrainedModel, batch: dict[str, Tensor]) -> None:
    taken = {each.name for each in session.get_inputs()}
    feed = {name: tensor.numpy() for name, tensor in graph_inputs(batch).items() if name in taken}
    with torch.inference_mode():
        want = model(**batch)[0]
    gap = float((torch.from_numpy(session.run(None, feed)[0]) - want).abs().max())
    if gap > _TOLERANCE * max(1.0, float(want.abs().max())):
        raise ModelError(
            f"The exported graph gives other logits than PyTorch (they differ by up to {gap:.2g}).",
            "Export without --onnx, and report this policy.",
        )

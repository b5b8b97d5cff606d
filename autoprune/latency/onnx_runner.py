"""Forwards run by ONNX Runtime: a model with its policy as it is now, one session per input shape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune.latency.onnx_files import exported
from autoprune.latency.onnx_session import open_session
from autoprune.pruning.onnx_export import check_exportable, graph_inputs, guarded_tokens, require_onnx

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from autoprune.latency.workload import Workload

Shape = tuple[Any, ...]


class OnnxRunner:
    """Runs one forward of an exported model from ready arrays to logits.

    A new shape is exported when it is first seen, which takes seconds: ``prepare`` does that beforehand. Each
    runner has sessions of its own, so that the threads of dense and pruned start under the same conditions.

    Args:
        model: Prepared by ``prepare_model``; the policy that is attached now is the one that is exported.
        workload: The threads are read.

    Raises:
        MissingExtraError: The extra ``onnx`` is not installed.
        PolicyError: No fixed graph can hold the policy.
    """

    def __init__(self, model: PreTrainedModel, workload: Workload) -> None:
        require_onnx()
        check_exportable(model)
        self._model, self._threads = model, workload.threads
        self._sessions: dict[Shape, Any] = {}
        self._ready: dict[int, tuple[Any, Any, dict[str, Any]]] = {}

    def prepare(self, inputs: Iterable[Mapping[str, Tensor]], say: Callable[[str], None] | None = None) -> None:
        """Export what these inputs need; each shape takes some seconds.

        Args:
            inputs: Model inputs.
            say: Told before each export.

        Raises:
            DataError: An input is padded.
            UnsupportedModelError: The model, or a method of the policy, cannot be exported.
        """
        for batch in inputs:
            self._open(batch, say)

    def __call__(self, batch: Mapping[str, Tensor]) -> Any:
        """Return the logits, a float32 array (rows, classes)."""
        if id(batch) not in self._ready:
            self._open(batch, None)
        _, session, feed = self._ready[id(batch)]
        return session.run(None, feed)[0]

    def _open(self, batch: Mapping[str, Tensor], say: Callable[[str], None] | None) -> None:
        inputs = graph_inputs(batch)
        guarded = guarded_tokens(self._model, batch)
        key = (tuple((name, tuple(tensor.shape)) for name, tensor in inputs.items()), guarded)
        if key not in self._sessions:
            with exported(self._model, batch, guarded, say) as path:
                self._sessions[key] = self._session(path)
        session = self._sessions[key]
        # An input that does not decide the logits is none of the graph's.
        taken = {each.name for each in session.get_inputs()}
        feed = {name: tensor.numpy() for name, tensor in inputs.items() if name in taken}
        # The batch is kept too: its id stays its own as long as it lives.
        self._ready[id(batch)] = (batch, session, feed)

    def _session(self, path: Path) -> Any:
        return open_session(path, self._threads)

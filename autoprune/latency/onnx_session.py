"""Sessions of ONNX Runtime as they are timed. Imports neither torch nor the rest of the latency room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autoprune.latency.fresh import high_water_bytes, reset_high_water

_ERRORS_ONLY = 3


def open_session(path: Path, threads: int) -> Any:
    """Return an ``onnxruntime.InferenceSession`` on the CPU, with all graph optimisations.

    Args:
        path: The ONNX file.
        threads: Threads within an operator; operators run one after the other.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = _ERRORS_ONLY
    # Threads spin for a while after a run; in a pair those of dense would take the CPU from the policy's next run.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def session_peak(path: str, threads: int, shapes: Mapping[str, Sequence[int]]) -> int | None:
    """Return the most resident memory of one forward, session included (runs in a fresh process without torch).

    Args:
        path: The ONNX file.
        threads: As in ``open_session``.
        shapes: Shape of each input by name; all are int64.
    """
    reset_high_water()
    session = open_session(Path(path), threads)
    taken = {each.name for each in session.get_inputs()}
    session.run(None, {name: np.ones(shape, dtype=np.int64) for name, shape in shapes.items() if name in taken})
    return high_water_bytes()

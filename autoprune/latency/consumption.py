"""What a forward consumes besides time: operations, weights, energy, and how many inputs fit in a second."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

_POWERCAP = Path("/sys/class/powercap")
NOT_AVAILABLE = "not available here"


def flops(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> int | None:
    """Count the floating-point operations of one forward (a multiply-add counts as two).

    Torch's counter knows CUDA's attention kernels but takes the CPU's flash kernel for free, so that
    kernel is mapped to the same formula: sdpa and eager then count alike.

    Args:
        model: A policy may be attached: what it saves and what it costs are both counted.
        inputs: One model input.

    Returns:
        The operations, or None where they cannot be counted (int8 kernels are not floating-point; a policy
        that scores by gradients).
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

    def attention(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
        return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]

    kernels = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention}
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    moved = {name: tensor.to(device) for name, tensor in inputs.items()}
    # Not inference_mode: inside it the counter sees attention before it is split into kernels.
    try:
        with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=kernels) as counter:
            model(**moved)
    except RuntimeError as error:
        if "autograd.grad()" not in str(error):
            raise
        return None  # torch's counter cannot follow a backward inside the forward, as saliency has it
    return int(counter.get_total_flops()) or None


def model_bytes(model: PreTrainedModel) -> int:
    """Return the bytes of weights and buffers, shared ones once; int8 weights count as they are stored."""
    import torch

    found: dict[int, int] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    packed = 0
    for module in model.modules():
        if isinstance(module, torch.ao.nn.quantized.dynamic.Linear):
            packed += int(module.weight().numel())  # type: ignore[no-untyped-call]
    return sum(found.values()) + packed


def throughput(
    runner: Callable[[Any], Any],
    batches: Mapping[int, Any],
    seconds: float = 1.0,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> dict[int, float]:
    """Return inputs per second by batch size.

    Args:
        runner: Runs one synchronised forward.
        batches: One batch by its number of rows.
        seconds: How long each batch size is run, after one forward that does not count.
        clock: Monotonic nanoseconds.
    """
    found = {}
    for rows, batch in batches.items():
        runner(batch)
        began, done = clock(), 0
        while (spent := (clock() - began) / 1e9) < seconds or not done:
            runner(batch)
            done += 1
        found[rows] = rows * done / ((clock() - began) / 1e9 or spent)
    return found


@dataclass(frozen=True)
class Energy:
    """Energy of one input.

    Attributes:
        joules: Joules per input, idle draw included, or None.
        source: ``RAPL``, ``NVML``, or ``not available here``.
        reason: Why it is not available, empty otherwise.
    """

    joules: float | None
    source: str = NOT_AVAILABLE
    reason: str = ""

    def describe(self) -> str:
        """Return the energy in words."""
        return f"{self.joules:.3g} J ({self.source})" if self.joules is not None else NOT_AVAILABLE


def energy_per_input(
    runner: Callable[[Any], Any],
    batch: Any,
    rows: int,
    device: str = "cpu",
    seconds: float = 2.0,
    powercap: Path = _POWERCAP,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> Energy:
    """Measure the energy of one input with the counters of the package (RAPL) or of the GPU (NVML).

    The counters are machine-wide, so it must run alone. There is no estimate: without a readable
    counter the answer is ``not available here``.

    Args:
        runner: Runs one synchronised forward.
        batch: Its input.
        rows: Inputs in the batch.
        device: Whose counter to read.
        seconds: How long to run.
        powercap: Where the kernel shows RAPL.
        clock: Monotonic nanoseconds.
    """
    if device.startswith("cuda"):
        counter, source, reason = _nvml_counter(device)
    elif device == "cpu":
        counter, source, reason = _rapl_counter(powercap)
    else:
        counter, source, reason = None, NOT_AVAILABLE, f"no energy counter for {device}"
    if counter is None:
        return Energy(None, reason=reason)
    runner(batch)
    began, before, done = clock(), counter(), 0
    while (clock() - began) / 1e9 < seconds or not done:
        runner(batch)
        done += 1
    spent = counter() - before
    if spent <= 0:
        return Energy(None, reason="the energy counter stood still or wrapped around")
    return Energy(spent / (done * rows), source)


def _rapl_counter(powercap: Path) -> tuple[Callable[[], float] | None, str, str]:
    """Return a reader of joules summed over packages (sub-zones are parts of them)."""
    files = sorted(powercap.glob("intel-rapl:[0-9]*/energy_uj"))
    files = [file for file in files if file.parent.name.count(":") == 1]
    if not files:
        return None, NOT_AVAILABLE, "the kernel shows no RAPL counter (virtual machines have none)"

    def read() -> float:
        return sum(int(file.read_text(encoding="utf-8")) for file in files) / 1e6

    try:
        read()
    except (OSError, ValueError):
        return None, NOT_AVAILABLE, "RAPL is there but not readable by this user"
    return read, "RAPL", ""


def _nvml_counter(device: str) -> tuple[Callable[[], float] | None, str, str]:
    try:
        pynvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return None, NOT_AVAILABLE, "nvidia-ml-py is not installed"
    number = int(device.partition(":")[2] or 0)
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(number)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError as error:
        return None, NOT_AVAILABLE, f"NVML does not tell: {error}"
    return lambda: float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3, "NVML", ""

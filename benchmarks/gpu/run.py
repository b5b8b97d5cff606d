"""What pruning does to a forward on a GPU: milliseconds, kernels launched, time the GPU works, waits for the GPU.

    python benchmarks/gpu/run.py                  # needs a CUDA device; half a minute
    python benchmarks/gpu/run.py --device cpu     # milliseconds alone

MiniLM of the quickstart in float32, 256 tokens, batches of 1 and 256; medians of 30 forwards, each waited for.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from autoprune.policy import PruningPolicy, Stage
from autoprune.pruning import attach
from autoprune.tasks.quickstart import load_model

TOKENS = 256
POLICIES = {
    "dense": None,
    "floor": PruningPolicy((Stage("input", "truncate", keep=0.001),), last_layer="first_token"),
    "last layer: first token alone": PruningPolicy(last_layer="first_token"),
    "random at the input, half": PruningPolicy((Stage("input", "random", keep=0.5),)),
    "norm before layer 1, half": PruningPolicy((Stage(1, "norm", keep=0.5),)),
    "cls_attention before layer 1, half": PruningPolicy((Stage(1, "cls_attention", keep=0.5),)),
    "the same, 0.6, and 0.3 before layer 3": PruningPolicy(
        (Stage(1, "cls_attention", keep=0.6), Stage(3, "cls_attention", keep=0.3))
    ),
}


def batch_of(rows: int, device: str) -> dict[str, torch.Tensor]:
    ids = torch.randint(1000, 20000, (rows, TOKENS))
    ids[:, 0], ids[:, -1] = 101, 102
    return {"input_ids": ids.to(device), "attention_mask": torch.ones_like(ids).to(device)}


def milliseconds(forward: Callable[[], Any], wait: Callable[[], Any], rounds: int = 30) -> float:
    samples = []
    for _ in range(rounds + 5):
        wait()
        begun = time.perf_counter()
        forward()
        wait()
        samples.append((time.perf_counter() - begun) * 1e3)
    return sorted(samples[5:])[rounds // 2]


def on_the_gpu(forward: Callable[[], Any]) -> str:
    """Return kernels launched, milliseconds that kernels ran, and how often the CPU waited, as cells of a table."""
    with warnings.catch_warnings(record=True) as waits:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        forward()
        torch.cuda.set_sync_debug_mode("default")
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorded:
        forward()
        torch.cuda.synchronize()
    events = recorded.key_averages()
    launched = sum(event.count for event in events if "LaunchKernel" in event.key)
    busy = sum(event.self_device_time_total for event in events if event.device_type == DeviceType.CUDA) / 1e3
    return f"{launched} | {busy:.2f} | {sum('synchroniz' in str(w.message) for w in waits)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 256])
    options = parser.parse_args()
    cuda = options.device.startswith("cuda")
    wait = torch.cuda.synchronize if cuda else lambda: None
    model, tokenizer = load_model()
    model.eval().to(options.device)
    print(f"{torch.cuda.get_device_name() if cuda else 'CPU'}, torch {torch.__version__}\n")
    print("| batch | policy | ms | kernels | GPU ms | waits |\n| --- | --- | --- | --- | --- | --- |")
    for rows in options.batches:
        batch = batch_of(rows, options.device)
        for name, policy in POLICIES.items():
            handle = None if policy is None else attach(model, policy, tokenizer=tokenizer)
            with torch.inference_mode():
                took = milliseconds(partial(model, **batch), wait)
                facts = on_the_gpu(partial(model, **batch)) if cuda else " |  | "
            print(f"| {rows} | {name} | {took:.2f} | {facts} |", flush=True)
            if handle is not None:
                handle.detach()


if __name__ == "__main__":
    main()

"""An exported model timed with ``time.perf_counter`` alone: no meter, no lock, no statistics of autoprune.

    python benchmarks/latency/independent.py OUT_DIR [--tokens 256] [--rounds 120] [--threads N]

Prints the ratio of medians of ``autoprune.load(OUT_DIR)`` and of the same weights without a policy,
taken in turn, beside the ratio that the export promises (goal: within 5 %).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import autoprune


def promise_of(folder: Path) -> tuple[float | None, int]:
    """Return the promised ratio, if there is one, and the threads that it was measured with."""
    document = json.loads((folder / "autoprune_policy.json").read_text(encoding="utf-8"))
    value = (document.get("figures") or {}).get("ratio")
    return None if value is None else float(value), int((document.get("workload") or {}).get("threads", 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=120)  # medians of 40 still move by several percent on 2 cores
    parser.add_argument("--threads", type=int, help="default: as many as the promise was measured with")
    options = parser.parse_args()
    promised, threads = promise_of(options.folder)
    torch.set_num_threads(options.threads or threads)
    models: dict[str, Any] = {
        "dense": AutoModelForSequenceClassification.from_pretrained(options.folder),
        "pruned": autoprune.load(str(options.folder)),
    }
    # Real text: with random ids no special token is protected, and a lexicon sees words that no text has.
    text = Path(autoprune.__file__).with_name("policy.py").read_text(encoding="utf-8")
    tokenizer = AutoTokenizer.from_pretrained(options.folder)
    batch = dict(tokenizer(text, truncation=True, max_length=options.tokens, return_tensors="pt"))
    seconds: dict[str, list[float]] = {name: [] for name in models}
    with torch.inference_mode():
        for number in range(options.rounds + 3):
            for name in sorted(models, reverse=bool(number % 2)):
                start = time.perf_counter()
                models[name](**batch)
                if number >= 3:
                    seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    ratio = medians["pruned"] / medians["dense"]
    print(f"dense {medians['dense'] * 1e3:.2f} ms, pruned {medians['pruned'] * 1e3:.2f} ms, ratio {ratio:.3f}")
    if promised:
        off = ratio / promised - 1
        print(f"promised {promised:.3f}, off by {off:+.1%} {'ok' if abs(off) <= 0.05 else 'MISSED'} (goal 5 %)")


if __name__ == "__main__":
    main()

"""Are ratios measured in the same rounds those measured alone, and what does it save?

``python benchmarks/latency/together.py --out together.json`` (some 8 minutes): groups of random policies of the
quickstart, each timed together and one by one, in turn, as a search times them. Which comes first alternates.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from run import Desk, circumstances, desk_parser, open_desk, random_policies

from autoprune.engine.timing import SEARCH_SETTINGS, Timer
from autoprune.latency.timing import PairedTiming

T = TypeVar("T")


def clocked(run: Callable[[], T]) -> tuple[T, float]:
    begun = time.perf_counter()
    return run(), time.perf_counter() - begun


def compare(desk: Desk, sizes: list[int]) -> list[dict[str, Any]]:
    timer = Timer(desk.task.model, desk.task.tokenizer, desk.workload, desk.inputs, desk.tables, "p50")
    policies, rows = random_policies(desk, sum(sizes), seed=3), []
    for number, size in enumerate(sizes):
        group, policies = policies[:size], policies[size:]
        ways: dict[str, Callable[[], list[PairedTiming]]] = {
            "together": lambda group=group: timer.measure_together(group, SEARCH_SETTINGS),  # type: ignore[misc]
            "alone": lambda group=group: [timer.measure(one, SEARCH_SETTINGS) for one in group],  # type: ignore[misc]
        }
        order = sorted(ways, reverse=bool(number % 2))
        taken = {way: clocked(ways[way]) for way in order}
        rows.append({"size": size, "first": order[0], **{way: figures(*taken[way]) for way in ways}})
        show(rows[-1])
    return rows


def figures(timings: list[PairedTiming], seconds: float) -> dict[str, Any]:
    return {
        "seconds": seconds,
        "ratios": [timing.ratio() for timing in timings],
        "half_widths": [timing.relative_half_width() for timing in timings],
        "rounds": [timing.rounds for timing in timings],
        "noisy": sum(timing.noisy for timing in timings),
    }


def show(row: dict[str, Any]) -> None:
    together, alone = row["together"], row["alone"]
    errors = [one / other - 1 for one, other in zip(together["ratios"], alone["ratios"], strict=True)]
    print(
        f"  {row['size']} policies: {together['seconds']:5.1f} s together, {alone['seconds']:5.1f} s alone; "
        f"ratios differ by {', '.join(f'{error:+.1%}' for error in errors)}; "
        f"noisy {together['noisy']} and {alone['noisy']}",
        flush=True,
    )


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for size in sorted({row["size"] for row in rows}):
        mine = [row for row in rows if row["size"] == size]
        saved = [row["together"]["seconds"] / row["alone"]["seconds"] for row in mine]
        found[f"seconds, {size} together over alone"] = [float(np.median(saved)), min(saved), max(saved)]
    pairs = [(w["ratios"], a["ratios"], w["half_widths"], a["half_widths"]) for w, a in _ways(rows)]
    ratio, alone, width, width_alone = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    errors = ratio / alone - 1
    found["ratio, together over alone: mean and its standard error"] = [
        float(errors.mean()),
        float(errors.std(ddof=1) / np.sqrt(errors.size)),
    ]
    found["ratio: median and largest difference"] = [float(np.median(abs(errors))), float(abs(errors).max())]
    found["half width, median: together, alone"] = [float(np.median(width)), float(np.median(width_alone))]
    found["noisy: together, alone, of"] = [
        *(sum(row[way]["noisy"] for row in rows) for way in ("together", "alone")),
        int(errors.size),
    ]
    return found


def _ways(rows: list[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [(row["together"], row["alone"]) for row in rows]


def main() -> None:
    parser = desk_parser(__doc__, inputs=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[2, 3, 4] * 4, help="policies of each group")
    options = parser.parse_args()
    desk = open_desk(options)
    rows = compare(desk, options.sizes)
    found = summary(rows)
    for name, values in found.items():
        print(f"  {name}: {', '.join(f'{value:.3g}' for value in values)}")
    if options.out:
        document = {**circumstances(desk), "summary": found, "groups": rows}
        options.out.write_text(json.dumps(document, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

"""How the result of a search is shown to people; everything is read from its JSON document."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import click
from click.core import ParameterSource

from autoprune.cli.output import Output
from autoprune.report.words import NOT_SCORED, interval, ms, number, pick, policy_line, times, verdict


def show_result(output: Output, document: Mapping[str, Any], out: str | None = None) -> None:
    """Print the result of a search and what to do next.

    Args:
        output: Where to print.
        document: The document that ``autoprune search --json`` prints.
        out: Folder of the export, if there is one.
    """
    statistic = pick(document, "budget", "statistic") or "p50"
    output.print(verdict(document["status"]))
    output.print()
    _facts(output, document, statistic)
    if document.get("front"):
        output.print()
        output.print("front, as measured during the search (the best above was measured again):")
        show_front(output, document["front"], statistic)
    output.print()
    for line in next_steps(document, out, db_flag(document)):
        output.print(line)


def show_front(output: Output, rows: Sequence[Mapping[str, Any]], statistic: str = "p50") -> None:
    """Print policies as a table, one per line."""
    output.table(
        [">trial", f">{statistic}", ">speed-up", ">score", ">drop", "95 %", ">KL", "policy"],
        [
            [
                str(row.get("trial", "")),
                ms(pick(row, "latency_ms", statistic)),
                times(row.get("speedup")),
                number(row.get("score")),
                number(row.get("drop")),
                interval(row.get("drop_ci95")),
                number(row.get("kl")),
                policy_line(row.get("policy")),
            ]
            for row in rows
        ],
    )


def show_bench(output: Output, document: Mapping[str, Any]) -> None:
    """Print the answer of ``autoprune bench``: what was promised beside what was measured now."""
    names = (
        ("ratio", "ratio"),
        ("  95 %", "ratio_ci95"),
        ("speed-up", "speedup"),
        ("score", "score"),
        ("drop", "drop"),
        ("  95 %", "drop_ci95"),
    )
    rows = [
        [name, _figure(pick(document, "promised", key)), _figure(pick(document, "measured", key))]
        for name, key in names
    ]
    output.table(["", ">promised", ">measured now"], rows)
    output.table(["", ">dense", ">pruned"], _resources(document))
    if document.get("same_hardware") is False:
        output.print("The promise was made on other hardware.")
    if pick(document, "measured", "noisy"):
        output.print("This machine is disturbed: the latency measured now is uncertain.")
    missed = "The promise does not hold here."
    if pick(document, "measured", "noisy"):
        missed = "Whether the promise holds cannot be decided now."
    verdicts = {True: "The promise holds.", False: missed, None: "There is no promise."}
    output.print(verdicts[document.get("holds")])


def _resources(document: Mapping[str, Any]) -> list[list[str]]:
    """Return what one input of the longest length takes besides time."""
    rows = [("peak memory, MiB", "memory_peak", 2**20), ("GFLOP", "flops", 1e9)]
    table = [
        [
            name,
            *(
                number(None if (found := pick(document, "resources", side, key)) is None else found / unit)
                for side in ("dense", "policy")
            ),
        ]
        for name, key, unit in rows
    ]
    return [*table, ["energy", *(str(pick(document, "resources", side, "energy")) for side in ("dense", "policy"))]]


def _figure(value: Any) -> str:
    return interval(value) if isinstance(value, list | tuple) else number(value)


def next_steps(document: Mapping[str, Any], out: str | None = None, flag: str = "") -> list[str]:
    """Return what to type next, ready to copy.

    Args:
        document: The document that ``autoprune search --json`` prints.
        out: Folder of the export, if there is one.
        flag: See ``db_flag``.
    """
    status = document["status"]
    if status in ("not_met", "infeasible"):
        return _smaller_wish(document, flag)
    if status == "interrupted":
        return ["The same command goes on where this one stopped."]
    if status == "too_noisy":
        return ["What disturbs this machine:", "", "autoprune doctor"]
    if status != "met":
        return []
    folder = out or "pruned"
    export = f"autoprune export {shlex.quote(document['study'])} -o {shlex.quote(folder)}{flag}"
    return ["Next, in a shell:", "", *([export] if out is None else []), *loading_lines(folder)]


def loading_lines(folder: str) -> list[str]:
    """Return how to check an export and how to use it, ready to copy."""
    return [
        f"autoprune bench {shlex.quote(folder)}",
        "",
        "and in Python:",
        "",
        "import autoprune, transformers",
        f"model = autoprune.load({json.dumps(folder)})",
        f'classify = transformers.pipeline("text-classification", model=model, tokenizer={json.dumps(folder)})',
    ]


def onnx_lines(folder: str, facts: Mapping[str, Any]) -> list[str]:
    """Return how to run the graph of an export.

    Args:
        folder: The export.
        facts: ``file``, and the shape of each input by name.
    """
    shapes, path = list(facts["inputs"].values()), f"{folder}/{facts['file']}"
    size = " x ".join(map(str, shapes[0])) if shapes else "no input"
    return [
        f"{facts['file']} takes {size} token ids without padding, and needs neither autoprune nor torch:",
        "",
        f"session = onnxruntime.InferenceSession({json.dumps(path)})",
        "logits = session.run(None, {each.name: encoded[each.name] for each in session.get_inputs()})[0]",
    ]


def db_flag(document: Mapping[str, Any]) -> str:
    """Return the ``--db`` that the next commands need: none where it stood in no option (passwords stay masked)."""
    context = click.get_current_context(silent=True)
    given = context is not None and context.get_parameter_source("db") is ParameterSource.COMMANDLINE
    return f" --db {shlex.quote(document['db'])}" if given else ""


def smallest_budget_met(document: Mapping[str, Any]) -> float | None:
    """Return the smallest budget in milliseconds that a measured policy is sure to meet (upper end of its interval)."""
    dense = pick(document, "dense", "latency_ms", pick(document, "budget", "statistic") or "p50")
    measured = [*(document.get("front") or []), document.get("nearest_infeasible")]
    upper = [pair[1] for pair in (pick(row, "ratio_ci95") for row in measured) if pair and pair[1] is not None]
    return min(upper) * dense if upper and dense is not None else None


def _smaller_wish(document: Mapping[str, Any], flag: str) -> list[str]:
    reachable = smallest_budget_met(document)
    if reachable is not None:
        up = math.ceil(reachable * 10) / 10  # rounded down, the policy would miss the budget named here
        budget = f"{up:.1f}ms@{pick(document, 'budget', 'statistic') or 'p50'}"
        command = f"autoprune front {shlex.quote(document['study'])} --budget {budget}{flag}"
        return [f"The smallest budget that a measured policy meets: {budget}. Look at it:", "", command]
    floor = document.get("floor_ms")
    return [] if floor is None else [f"The floor, which no policy gets under, is {ms(floor)}; ask for more than that."]


def _facts(output: Output, document: Mapping[str, Any], statistic: str) -> None:
    dense, best = document.get("dense"), document.get("best")
    nearest = document.get("nearest_infeasible")
    lines = [
        ("study", f"{document['study']}   ({document['db']})"),
        ("budget", f"{document['budget']['text']} = {ms(document['budget'].get('limit_ms'))} {statistic}"),
        (
            "dense",
            f"{ms(pick(dense, 'latency_ms', statistic))}   {_scored(document, dense)}",
        ),
        *_drift_facts(dense, statistic),
        ("floor", ms(document.get("floor_ms"))),
    ]
    if best is not None:
        lines += _policy_facts("best", best, statistic)
    elif document["status"] == "interrupted" and document.get("front"):
        lines += _policy_facts("so far", max(document["front"], key=lambda row: row["score"]), statistic)
    elif nearest is not None:
        lines += _policy_facts("nearest", nearest, statistic)
    counts = document.get("trials") or {}
    lines.append(
        (
            "trials",
            ", ".join(f"{count} {name}" for name, count in counts.items())
            + f"   {document.get('elapsed_s') or 0:.0f} s",
        )
    )
    spent = _spent(document.get("seconds") or {})
    if spent:
        lines.append(("time", spent))
    for name, text in lines:
        output.print(f"{name:8} {text}")


def _spent(seconds: Mapping[str, float]) -> str:
    """Return where the time of this sitting went, phase by phase."""
    return ", ".join(f"{name} {spent:.0f} s" for name, spent in seconds.items() if spent >= 0.5)


def _scored(document: Mapping[str, Any], dense: Any) -> str:
    if pick(dense, "score") is None:
        return NOT_SCORED
    metric = document.get("metric") or "score"
    if metric == "agreement":
        metric = "agreement with dense, for want of labels"
    return f"score {number(pick(dense, 'score'))}   ({metric}, {pick(dense, 'n_examples') or 0} examples)"


def _drift_facts(dense: Any, statistic: str) -> list[tuple[str, str]]:
    """Return dense as the machine runs it now, where it left the study's figure for good."""
    now, then = pick(dense, "drift", "latency_ms", statistic), pick(dense, "latency_ms", statistic)
    if now is None or not then:
        return []
    return [("  now", f"{ms(now)} ({now / then - 1:+.0%}): latencies here are shares of {ms(then)}")]


def _policy_facts(name: str, row: Mapping[str, Any], statistic: str) -> list[tuple[str, str]]:
    checked = "measured again in a fresh process" if row.get("verified") else "not measured again"
    ratio = f"ratio {number(row.get('ratio'), 3)} {interval(row.get('ratio_ci95'), 3)}"
    scored = f"score {number(row.get('score'))}   drop {number(row.get('drop'))} {interval(row.get('drop_ci95'))}"
    return [
        (name, f"{ms(pick(row, 'latency_ms', statistic))}   {times(row.get('speedup'))} faster   {ratio}"),
        ("", NOT_SCORED if row.get("score") is None else scored),
        ("", policy_line(row.get("policy"))),
        ("", checked),
    ]

"""Notes for Optuna Dashboard, in Markdown: the study's result, and each trial's policy."""

from __future__ import annotations

import json

from autoprune.report.gather import ReportData
from autoprune.report.words import interval, ms, number, percent, pick, policy_line, score, times, verdict
from autoprune.store.rows import Json


def study_note(data: ReportData) -> str:
    """Return the study's note: budget, dense, best, drop with interval, how to export, the feasible front."""
    lines = [
        f"## {verdict(data.study.status)}",
        "",
        f"| | latency {data.statistic} | score |",
        "|---|---|---|",
        f"| budget `{data.study.budget.get('text', '')}` | {ms(data.limit_ms)} | |",
        f"| dense (trial 0) | {ms(data.dense_ms)} | {score(data.dense_score)} |",
    ]
    if data.floor_ms is not None:
        lines.append(f"| floor | {ms(data.floor_ms)} | |")
    lines += _best(data) if data.best else []
    lines += _front(data)
    lines += [
        "",
        "*This page's own best trials ignore the budget; the front above and the chart `front` keep to it.*",
    ]
    return "\n".join(lines)


def _best(data: ReportData) -> list[str]:
    best = data.best or {}
    return [
        f"| **best (trial {best.get('trial')})** | **{ms(pick(best, 'latency_ms', data.statistic))}** "
        f"| **{score(best.get('score'))}** |",
        "",
        f"- speed-up {times(best.get('speedup'))}: {percent(best.get('ratio'))} of dense, "
        f"95 % {interval(best.get('ratio_ci95'), 3)}",
        f"- drop {number(best.get('drop'))}, 95 % {interval(best.get('drop_ci95'))}",
        f"- policy: {policy_line(best.get('policy'))}",
        "",
        "Export it:",
        "",
        "```",
        f"autoprune export {data.study.name} -o pruned",
        "autoprune bench pruned",
        "```",
    ]


def _front(data: ReportData) -> list[str]:
    if not data.front:
        return []
    rows = [
        f"| {p.trial} | {ms(p.latency_ms)} | {number(p.score)} | {number(p.drop)} "
        f"{interval([p.drop_lo, p.drop_hi])} | {p.described} |"
        for p in data.front
    ]
    return [
        "", "### Front within the budget", "",
        f"| trial | {data.statistic} | score | drop, 95 % | policy |", "|---|---|---|---|---|", *rows,
    ]  # fmt: skip


def trial_note(number_: int, policy: Json) -> str:
    """Return a trial's note: the policy in one line, stage by stage, and as JSON."""
    if number_ == 0:
        return "## Dense\n\nThe model without pruning: what every other trial is compared with."
    lines = [f"**{policy_line(policy)}**", ""]
    stages = policy.get("stages") or []
    if stages:
        lines += ["| layer | scorer | keeps | rest |", "|---|---|---|---|"]
        lines += [
            f"| {stage['layer']} | {stage['scorer']} | {_amount(stage)} | {stage.get('reduce', 'drop')} |"
            for stage in stages
        ]
    return "\n".join([*lines, "", "```json", json.dumps(policy, indent=1), "```"])


def _amount(stage: Json) -> str:
    if stage.get("keep") is not None:
        return percent(stage["keep"])
    if stage.get("mass") is not None:
        return f"{percent(stage['mass'])} of the score"
    return f"scores from {number(stage.get('threshold'), 3)}"

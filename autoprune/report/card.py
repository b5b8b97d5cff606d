"""A section for a model card: what was pruned, what it gains and costs, on which machine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from autoprune.report.gather import ReportData, gather
from autoprune.report.words import interval, ms, number, percent, pick, policy_line, score, times, verdict

if TYPE_CHECKING:
    from autoprune.store.repository import Store


def markdown_card(store: Store, study: str) -> str:
    """Return the section as Markdown.

    Args:
        store: The open database.
        study: Name of the study, or its only beginning.

    Raises:
        StudyNotFoundError: There is none of that name.
        StoreError: The study has no figures yet.
    """
    return render_card(gather(store, store.find_measured_study(study).name))


def render_card(data: ReportData) -> str:
    """Return the section for gathered data."""
    lines = ["## Token pruning", "", verdict(data.study.status)]
    lines += _figures(data) if data.best else _without(data)
    lines += _conditions(data)
    return "\n".join(lines) + "\n"


def _figures(data: ReportData) -> list[str]:
    best, metric = data.best or {}, str(data.result.get("metric") or data.study.task.get("metric") or "score")
    dense = pick(data.result, "dense", "latency_ms") or {}
    ratio = f"{number(best.get('ratio'), 3)} {interval(best.get('ratio_ci95'), 3)}"
    cells = [
        ("latency p50", ms(dense.get("p50")), ms(pick(best, "latency_ms", "p50"))),
        ("latency p95", ms(dense.get("p95")), ms(pick(best, "latency_ms", "p95"))),
        (f"ratio of {data.statistic}, 95 %", "1", ratio),
        ("speed-up", "1", times(best.get("speedup"))),
        (metric, score(data.dense_score), score(best.get("score"))),
        ("drop, 95 %", "", f"{number(best.get('drop'))} {interval(best.get('drop_ci95'))}"),
        ("agreement with dense", "", percent(best.get("agreement"))),
        ("KL to dense, nats", "", number(best.get("kl"))),
        ("FLOPs", "1", percent(best.get("flops_ratio"))),
    ]
    rows = [f"| {name} | {left} | {right} |" for name, left, right in cells]
    return [
        "", f"Policy: {policy_line(best.get('policy'))}", "", "| | dense | pruned |", "|---|---|---|", *rows, "",
        "```json", json.dumps(best.get("policy")), "```",
    ]  # fmt: skip


def _without(data: ReportData) -> list[str]:
    return [
        "", "| | dense |", "|---|---|",
        f"| latency {data.statistic} | {ms(data.dense_ms)} |",
        f"| score | {score(data.dense_score)} |",
        f"| floor | {ms(data.floor_ms)} |",
    ]  # fmt: skip


def _conditions(data: ReportData) -> list[str]:
    study = data.study
    facts = [
        ("budget", study.budget.get("text")), ("model", study.model.get("name")), ("task", study.task.get("name")),
        ("examples", pick(data.result, "dense", "n_examples")), ("workload", _described(study.workload)),
        ("hardware", _described(study.hardware)),
        ("versions", ", ".join(f"{name} {version}" for name, version in study.versions.items())),
        ("study", f"{study.name}, {study.created_at:%Y-%m-%d}" if study.created_at else study.name),
    ]  # fmt: skip
    return [
        "", "The latency holds for this workload and machine; scores hold for this task.", "",
        *(f"- {name}: {value}" for name, value in facts if value not in (None, "")),
    ]  # fmt: skip


def _described(facts: dict[str, object]) -> str:
    text = facts.get("describe") or facts.get("described")
    return str(text) if text else ", ".join(f"{key} {value}" for key, value in facts.items() if key != "digest")

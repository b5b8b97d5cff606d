"""``autoprune report``: one self-contained HTML file that opens offline."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune.errors import InputError
from autoprune.report import charts, words
from autoprune.report.gather import ReportData, TokenExample, gather
from autoprune.report.tokens import examples_or_reason
from autoprune.resources import resource

if TYPE_CHECKING:
    from autoprune.store.repository import Store


def write_report(
    store: Store, study: str, path: str | os.PathLike[str], examples: Sequence[TokenExample] | None = None
) -> Path:
    """Write a study's report.

    Args:
        store: The open database.
        study: Name of the study, or its only beginning.
        path: The file to write; it appears only when it is complete.
        examples: Texts and which of their tokens go; None loads the study's model and asks it (seconds).

    Raises:
        StudyNotFoundError: There is none of that name.
        StoreError: The study has no figures yet.
        InputError: The file cannot be written, or its folder is not there.
    """
    target = Path(path)
    if not target.parent.is_dir():  # before the model is loaded; a mistyped path must not leave folders behind
        raise InputError(f"There is no folder {target.parent}.", "Make it, or give another file with -o.")
    name = store.find_measured_study(study).name
    reason = ""
    if examples is None:
        examples, reason = examples_or_reason(store, name)
    text = render(gather(store, name, examples, reason))
    part = target.with_name(f"{target.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, target)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise InputError(
            f"The report {target} cannot be written: {error.strerror}.", "Give another file with -o."
        ) from None
    return target


def render(data: ReportData) -> str:
    """Return the report as one HTML text, plotly included."""
    from jinja2 import Environment
    from plotly.offline import get_plotlyjs

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "ms": words.ms, "number": words.number, "score": words.score, "percent": words.percent, "times": words.times,
        "interval": words.interval, "policy": words.policy_line,
    }  # fmt: skip
    template = environment.from_string(resource("dashboards", "report.html").read_text(encoding="utf-8"))
    drawn = charts.all_charts(data)
    return template.render(
        data=data,
        verdict=words.verdict(data.study.status),
        has=set(drawn),
        charts=_script_json(drawn),
        plotly=get_plotlyjs(),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        facts=_facts(data),
        policy_json=json.dumps(words.pick(data.best, "policy"), indent=2),
    )


def _script_json(value: Any) -> str:
    # Inside a script element neither a closing tag nor a comment may begin.
    return json.dumps(value).replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _facts(data: ReportData) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the environment as groups of (name, value)."""
    groups = [
        ("Task", data.study.task), ("Model", data.study.model), ("Workload", data.study.workload),
        ("Hardware", data.study.hardware), ("Options", data.study.config.get("options") or {}),
        ("Versions", data.study.versions),
    ]  # fmt: skip
    return [
        (title, [(key, _value(value)) for key, value in facts.items() if value is not None]) for title, facts in groups
    ]


def _value(value: Any) -> str:
    if isinstance(value, list) and len(value) > 1 and len(set(map(str, value))) == 1:
        return f"{len(value)} × {value[0]}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

"""``autoprune probe --plot``: one HTML file with what the probe found; plotly is inside, so it opens offline."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autoprune.errors import InputError
from autoprune.report.charts import BEST, DENSE, FEASIBLE, LIMIT, SERIES
from autoprune.report.words import ms, pick

_TITLES = ("Latency against tokens", "Each layer against the tokens that enter it", "What scoring costs at full length")


def check_page(path: Path) -> None:
    """Refuse a file that cannot be written, before anything is measured.

    Raises:
        InputError: It is a folder, or its folder is not there or not writable.
    """
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise InputError(f"The chart {path} cannot be written there.", "Give a file in an existing folder with --plot.")


def write_probe_page(document: Mapping[str, Any], path: Path) -> Path:
    """Write the chart of a probe.

    Args:
        document: What ``autoprune probe --json`` prints.
        path: The file to write; it appears only when it is complete.

    Raises:
        InputError: It cannot be written.
    """
    text = figure(document).to_html(include_plotlyjs=True, full_html=True, config={"displaylogo": False})
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise InputError(
            f"The chart {path} cannot be written: {error.strerror}.", "Give another file with --plot."
        ) from None
    return path


def figure(document: Mapping[str, Any]) -> Any:
    """Return a plotly figure: staircase with dense, floor and budget; layers; scorers.

    Args:
        document: What ``autoprune probe --json`` prints.
    """
    from plotly.subplots import make_subplots

    out = make_subplots(rows=3, cols=1, subplot_titles=_TITLES, vertical_spacing=0.09)
    _staircase(out, document)
    _layers(out, document["probe"]["cost_table"])
    _scorers(out, document["probe"]["scorer_ms"])
    for row, label in ((1, "tokens"), (2, "tokens"), (3, "ms")):
        out.update_xaxes(title_text=label, rangemode="tozero", row=row, col=1)
    for row in (1, 2):
        out.update_yaxes(title_text="ms", rangemode="tozero", row=row, col=1)
    out.update_layout(title=f"{document['task']}: what this machine makes of fewer tokens", height=1250)
    return out


def _staircase(out: Any, document: Mapping[str, Any]) -> None:
    import plotly.graph_objects as go

    points = document["probe"]["sweep"]
    full = points[-1]["ms"]
    bars = {
        "type": "data",
        "symmetric": False,
        "array": [(p["ratio_ci"][1] - p["ratio"]) * full for p in points],
        "arrayminus": [(p["ratio"] - p["ratio_ci"][0]) * full for p in points],
    }
    x, y = [p["tokens"] for p in points], [p["ms"] for p in points]
    line = go.Scatter(x=x, y=y, error_y=bars, mode="lines+markers", name="dense on fewer tokens", line={"color": BEST})
    out.add_trace(line, row=1, col=1)
    statistic = document["budget"]["statistic"]
    levels = (
        ("dense", pick(document, "dense", "latency_ms", statistic), DENSE),
        ("floor", document["floor_ms"], FEASIBLE),
        ("budget", pick(document, "budget", "limit_ms"), LIMIT),
    )
    for name, level, color in levels:
        if level is not None:
            text = f"{name} {ms(level)}"
            out.add_hline(y=level, line={"color": color, "dash": "dash"}, annotation_text=text, row=1, col=1)


def _layers(out: Any, table: Mapping[str, Any]) -> None:
    import plotly.graph_objects as go

    named = [(f"layer {index}", row) for index, row in enumerate(table["layers_ms"])]
    for index, (name, row) in enumerate([*named, ("embedding and head", table["around_ms"])]):
        line = {"color": SERIES[index % len(SERIES)], "dash": "dot" if index == len(named) else "solid"}
        out.add_trace(
            go.Scatter(x=list(table["tokens"]), y=list(row), mode="lines", name=name, line=line), row=2, col=1
        )


def _scorers(out: Any, costs: Mapping[str, float]) -> None:
    import plotly.graph_objects as go

    ordered = sorted(costs.items(), key=lambda item: item[1])
    bar = go.Bar(x=[cost for _, cost in ordered], y=[name for name, _ in ordered], orientation="h", showlegend=False)
    out.add_trace(bar, row=3, col=1)

"""The charts of a report as plotly JSON: plain dicts, so that nothing heavy loads to draw them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autoprune.report.gather import ReportData
from autoprune.report.words import ms, number, pick, policy_line

Chart = dict[str, Any]
DENSE, BEST, FEASIBLE, INFEASIBLE, LIMIT = "#94a3b8", "#3b82f6", "#10b981", "#94a3b8", "#ef4444"
SERIES = ("#3b82f6", "#10b981", "#f59e0b", "#a855f7", "#ef4444", "#14b8a6", "#ec4899", "#84cc16")
_MARGIN = {"l": 56, "r": 16, "t": 16, "b": 48}


def all_charts(data: ReportData) -> dict[str, Chart]:
    """Return every chart that has data, by the id of its place in the template."""
    charts = {
        "front": front(data) if data.points else None,
        "latency": latency(data) if data.dense_samples and data.best_samples else None,
        "staircase": staircase(data) if data.sweep else None,
        "layers": layers(data) if data.cost_table else None,
        "keep": keep(data) if data.keep else None,
        "course": course(data, "evaluations") if data.course else None,
        "course-time": course(data, "seconds") if data.course else None,
        "predicted": predicted(data) if data.predicted else None,
    }
    return {name: chart for name, chart in charts.items() if chart is not None}


def front(data: ReportData) -> Chart:
    """Return latency against score: every trial, the front with intervals, dense, the promise, the budget."""
    members = {point.trial for point in data.front}
    outside = [point for point in data.points if point.trial not in members and point.trial != 0]
    traces = [
        {
            **_points(outside, "tried", data),
            "marker": {
                "color": [FEASIBLE if _inside(point.latency_hi_ms, data.limit_ms) else INFEASIBLE for point in outside],
                "size": 6,
                "opacity": 0.75,
                "symbol": ["circle" if _inside(point.latency_hi_ms, data.limit_ms) else "x" for point in outside],
            },
        },
        {
            **_points(data.front, "front within the budget", data),
            "mode": "lines+markers",
            "line": {"color": FEASIBLE, "shape": "hv", "width": 1.5},
            "marker": {"color": FEASIBLE, "size": 9},
            "error_x": _latency_bars(data.front),
            "error_y": _score_bars(data.front),
        },
        *_landmarks(data),
    ]
    layout = _layout(f"latency {data.statistic}, ms", "score")
    layout["legend"] = {"orientation": "h", "y": 1.02, "yanchor": "bottom"}
    layout["margin"] = {**_MARGIN, "t": 64}
    lines = []
    if data.limit_ms is not None:
        lines.append(_vertical(data.limit_ms, f"budget {ms(data.limit_ms)}"))
    if data.dense_score is not None:
        lines.append(_horizontal(data.dense_score, f"dense {number(data.dense_score)}", DENSE))
    for part in ("shapes", "annotations"):
        layout[part] = [drawn for line in lines for drawn in line[part]]
    return {"data": traces, "layout": layout}


def _inside(value: float, limit: float | None) -> bool:
    return limit is None or value <= limit


def _points(points: Sequence[Any], name: str, data: ReportData) -> Chart:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [point.latency_ms for point in points],
        "y": [point.score for point in points],
        "customdata": [[point.trial, point.described] for point in points],
        "hovertemplate": "trial %{customdata[0]}<br>%{x:.2f} ms, score %{y:.4f}<br>%{customdata[1]}<extra></extra>",
    }


def _latency_bars(points: Sequence[Any]) -> Chart:
    highs = [point.latency_hi_ms - point.latency_ms for point in points]
    lows = [
        point.latency_ms * (1 - point.ratio_lo / point.ratio) if point.ratio and point.ratio_lo is not None else 0.0
        for point in points
    ]
    return {"type": "data", "symmetric": False, "array": highs, "arrayminus": lows, "thickness": 1.2, "width": 3}


def _score_bars(points: Sequence[Any]) -> Chart:
    # The drop's interval is the score's: dense is the same for all of them.
    up = [point.drop - point.drop_lo if None not in (point.drop, point.drop_lo) else 0.0 for point in points]
    down = [point.drop_hi - point.drop if None not in (point.drop, point.drop_hi) else 0.0 for point in points]
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "thickness": 1.2, "width": 3}


def _landmarks(data: ReportData) -> list[Chart]:
    out = []
    if data.dense_ms is not None and data.dense_score is not None:
        out.append(_landmark("dense", data.dense_ms, data.dense_score, "diamond", DENSE, "dense"))
    best = data.best
    latency_ms, score = pick(best, "latency_ms", data.statistic), pick(best, "score")
    if latency_ms is not None and score is not None:
        out.append(_landmark("promised", latency_ms, score, "star", BEST, policy_line(pick(best, "policy"))))
    return out


def _landmark(name: str, x: float, y: float, symbol: str, color: str, text: str) -> Chart:
    return {
        "type": "scatter", "mode": "markers", "name": name, "x": [x], "y": [y],
        "marker": {"symbol": symbol, "size": 15, "color": color, "line": {"width": 1, "color": "#ffffff"}},
        "hovertemplate": f"{name}<br>%{{x:.2f}} ms, score %{{y:.4f}}<br>{text}<extra></extra>",
    }  # fmt: skip


def latency(data: ReportData) -> Chart:
    """Return the distributions of dense and of the promised policy, taken in pairs."""
    # The last per mille is a disturbed machine: it would squeeze the rest into one bar.
    high = sorted(data.dense_samples)[int(0.995 * (len(data.dense_samples) - 1))]
    low = min(data.best_samples)
    bins = {"start": low * 0.98, "end": high * 1.02, "size": max((high * 1.02 - low * 0.98) / 90, 1e-6)}
    traces = [
        {"type": "histogram", "name": name, "x": list(samples), "xbins": bins, "opacity": 0.7,
         "marker": {"color": color}, "histnorm": "percent",
         "hovertemplate": "%{x} ms: %{y:.1f} %<extra>" + name + "</extra>"}
        for name, samples, color in (("dense", data.dense_samples, DENSE), ("promised", data.best_samples, BEST))
    ]  # fmt: skip
    layout = _layout("one forward, ms (raw samples)", "share of samples, %")
    layout |= {"barmode": "overlay", "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"}}
    layout["margin"] = {**_MARGIN, "t": 40}
    return {"data": traces, "layout": layout}


def staircase(data: ReportData) -> Chart:
    """Return dense latency against tokens: what removing tokens can gain on this machine."""
    points = sorted(data.sweep, key=lambda point: point["tokens"])
    traces = [{
        "type": "scatter", "mode": "lines+markers", "name": "dense on fewer tokens", "line": {"color": BEST},
        "x": [point["tokens"] for point in points], "y": [point["ms"] for point in points],
        "hovertemplate": "%{x} tokens: %{y:.2f} ms<extra></extra>",
    }]  # fmt: skip
    layout = _layout("tokens", "latency, ms", zero=True)
    if data.limit_ms is not None:
        layout |= _horizontal(data.limit_ms, f"budget {ms(data.limit_ms)}")
    return {"data": traces, "layout": layout}


def layers(data: ReportData) -> Chart | None:
    """Return the cost table: each layer's own time against tokens."""
    table = data.cost_table or {}
    tokens, rows = table.get("tokens") or [], table.get("layers_ms") or table.get("layers") or []
    if not tokens or not rows:
        return None
    traces = [
        {"type": "scatter", "mode": "lines", "name": f"layer {index}", "x": list(tokens), "y": list(row),
         "line": {"color": SERIES[index % len(SERIES)], "width": 1.5},
         "hovertemplate": f"layer {index}, %{{x}} tokens: %{{y:.3f}} ms<extra></extra>"}
        for index, row in enumerate(rows)
    ]  # fmt: skip
    if table.get("around_ms"):
        traces.append({
            "type": "scatter", "mode": "lines", "name": "embedding and head", "x": list(tokens),
            "y": list(table["around_ms"]), "line": {"color": DENSE, "dash": "dot"},
            "hovertemplate": "outside the layers, %{x} tokens: %{y:.3f} ms<extra></extra>",
        })  # fmt: skip
    return {"data": traces, "layout": _layout("tokens that enter the layer", "ms per layer", zero=True)}


def keep(data: ReportData) -> Chart:
    """Return the share of tokens that enters each layer, for the front's policies."""
    best = pick(data.best, "trial")
    traces = [
        {"type": "scatter", "mode": "lines+markers",
         "name": f"trial {trial}" + (" (promised)" if trial == best else ""),
         "x": list(range(len(shares))), "y": [100 * share for share in shares],
         "line": {"shape": "hv", "color": SERIES[index % len(SERIES)], "width": 3 if trial == best else 1.5},
         "hovertemplate": f"trial {trial}, layer %{{x}}: %{{y:.0f}} %<extra></extra>"}
        for index, (trial, shares) in enumerate(data.keep[:12])
    ]  # fmt: skip
    layout = _layout("layer", "tokens that enter, %", zero=True)
    layout["xaxis"]["dtick"] = 1
    return {"data": traces, "layout": layout}


def course(data: ReportData, against: str) -> Chart:
    """Return the best score within the budget so far, against evaluations or seconds."""
    known = [point for point in data.course if point.score is not None]
    traces = [{
        "type": "scatter", "mode": "lines+markers", "line": {"shape": "hv", "color": BEST},
        "name": "best within the budget",
        "x": [getattr(point, against) for point in known], "y": [point.score for point in known],
        "hovertemplate": f"%{{x:.0f}} {against}: %{{y:.4f}}<extra></extra>",
    }]  # fmt: skip
    layout = _layout(against, "best score")
    if data.dense_score is not None:
        layout |= _horizontal(data.dense_score, f"dense {number(data.dense_score)}", DENSE)
    return {"data": traces, "layout": layout}


def predicted(data: ReportData) -> Chart:
    """Return predicted against measured latency."""
    guesses, truths = [pair[0] for pair in data.predicted], [pair[1] for pair in data.predicted]
    ends = [min(guesses + truths), max(guesses + truths)]
    traces = [
        {"type": "scatter", "mode": "lines", "x": ends, "y": ends, "line": {"color": DENSE, "dash": "dot"},
         "name": "equal", "hoverinfo": "skip"},
        {"type": "scatter", "mode": "markers", "x": guesses, "y": truths, "marker": {"color": BEST, "size": 7},
         "name": "policy", "hovertemplate": "predicted %{x:.2f} ms, measured %{y:.2f} ms<extra></extra>"},
    ]  # fmt: skip
    return {"data": traces, "layout": _layout("predicted, ms", "measured, ms") | {"showlegend": False}}


def _layout(x: str, y: str, *, zero: bool = False) -> Chart:
    axis = {"automargin": True, "zeroline": False}
    return {
        "xaxis": {"title": {"text": x}, **axis, **({"rangemode": "tozero"} if zero else {})},
        "yaxis": {"title": {"text": y}, **axis, **({"rangemode": "tozero"} if zero else {})},
        "margin": dict(_MARGIN), "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)",
        "hovermode": "closest",
    }  # fmt: skip


def _vertical(x: float, text: str) -> Chart:
    line = {
        "type": "line",
        "x0": x,
        "x1": x,
        "y0": 0,
        "y1": 1,
        "yref": "paper",
        "line": {"color": LIMIT, "dash": "dash"},
    }
    note = {"x": x, "y": 1, "yref": "paper", "text": text, "showarrow": False, "xanchor": "right", "yanchor": "top",
            "xshift": -4, "font": {"color": LIMIT}}  # fmt: skip
    return {"shapes": [line], "annotations": [note]}


def _horizontal(y: float, text: str, color: str = LIMIT) -> Chart:
    line = {
        "type": "line",
        "y0": y,
        "y1": y,
        "x0": 0,
        "x1": 1,
        "xref": "paper",
        "line": {"color": color, "dash": "dash"},
    }
    # Under the line: above it, the budget's label would stand in the way on a narrow page.
    note = {"y": y, "x": 0, "xref": "paper", "text": text, "showarrow": False, "xanchor": "left", "yanchor": "top",
            "xshift": 4, "font": {"color": color}}  # fmt: skip
    return {"shapes": [line], "annotations": [note]}

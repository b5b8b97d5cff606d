"""Charts are valid plotly, and show what they say."""

import json

from plotly.graph_objects import Figure

from autoprune.report import charts
from autoprune.report.gather import gather
from autoprune.store import Store


def test_every_chart_is_valid_plotly_and_strict_json(store: Store) -> None:
    drawn = charts.all_charts(gather(store, "s"))
    assert len(drawn) == 8
    for name, chart in drawn.items():
        Figure(data=chart["data"], layout=chart["layout"])  # refuses unknown fields
        json.dumps(chart, allow_nan=False)
        assert chart["layout"]["xaxis"]["title"]["text"], name


def test_front_chart_has_every_trial_once(store: Store) -> None:
    data = gather(store, "s")
    tried, front, dense, promised = charts.front(data)["data"]
    shown = [row[0] for trace in (tried, front) for row in trace["customdata"]]
    assert sorted(shown) == [point.trial for point in data.points if point.trial != 0]
    assert (dense["x"], dense["y"]) == ([data.dense_ms], [data.dense_score])
    assert promised["y"] == [(data.best or {})["score"]]
    inside = [row[0] for row, symbol in zip(tried["customdata"], tried["marker"]["symbol"]) if symbol == "circle"]
    assert set(inside) == {p.trial for p in data.points if p.latency_hi_ms <= 20.0} - {p.trial for p in data.front}
    bars = front["error_x"]
    for point, up, down in zip(data.front, bars["array"], bars["arrayminus"]):
        assert point.latency_ms + up == point.latency_hi_ms
        assert abs((point.latency_ms - down) / point.latency_ms - (point.ratio_lo or 0) / (point.ratio or 1)) < 1e-9


def test_budget_and_dense_are_lines(store: Store) -> None:
    from dataclasses import replace

    data = gather(store, "s")
    layout = charts.front(data)["layout"]
    budget, dense = layout["shapes"]
    assert (budget["x0"], budget["x1"]) == (20.0, 20.0)
    assert (dense["y0"], dense["y1"], dense["xref"]) == (data.dense_score, data.dense_score, "paper")
    assert [note["text"].split()[0] for note in layout["annotations"]] == ["budget", "dense"]
    assert charts.front(replace(data, limit_ms=None, dense_score=None))["layout"]["shapes"] == []


def test_cost_table_of_the_real_probe_is_understood(store: Store) -> None:
    from dataclasses import replace

    data = gather(store, "s")
    table = {"tokens": [8, 16], "layers_ms": [[1.0, 2.0], [1.5, 2.5]], "around_ms": [0.1, 0.2]}
    chart = charts.layers(replace(data, cost_table=table))
    assert chart is not None
    assert [trace["y"] for trace in chart["data"]] == [[1.0, 2.0], [1.5, 2.5], [0.1, 0.2]]
    assert charts.layers(replace(data, cost_table={"version": 9})) is None

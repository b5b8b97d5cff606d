"""The chart of a probe: one file, everything in it."""

import pytest

from autoprune.errors import InputError
from autoprune.report.probe_page import check_page, figure, write_probe_page

DOCUMENT = {
    "task": "minilm-docstrings",
    "budget": {"text": "20ms", "statistic": "p95", "limit_ms": 20.0},
    "dense": {"latency_ms": {"p50": 48.0, "p95": 52.0, "mean": 49.0}},
    "floor_ms": 6.2,
    "probe": {
        "sweep": [
            {"tokens": 16, "ms": 8.0, "ratio": 0.16, "ratio_ci": [0.15, 0.17]},
            {"tokens": 256, "ms": 50.0, "ratio": 1.0, "ratio_ci": [1.0, 1.0]},
        ],
        "cost_table": {"tokens": [16, 256], "layers_ms": [[1.0, 8.0], [1.1, 8.1]], "around_ms": [0.5, 1.0]},
        "scorer_ms": {"cls_attention@layer": 0.3, "lexicon@input": 0.02},
    },
}


def test_the_figure_holds_what_was_measured():
    drawn = figure(DOCUMENT).to_dict()
    by_name = {trace.get("name"): trace for trace in drawn["data"]}
    assert list(by_name["dense on fewer tokens"]["y"]) == [8.0, 50.0]
    assert list(by_name["dense on fewer tokens"]["error_y"]["array"]) == pytest.approx([0.5, 0.0])
    assert list(by_name["layer 1"]["y"]) == [1.1, 8.1]
    assert list(by_name["embedding and head"]["y"]) == [0.5, 1.0]
    assert list(by_name[None]["y"]) == ["lexicon@input", "cls_attention@layer"]
    texts = [note["text"] for note in drawn["layout"]["annotations"]]
    assert {"dense 52.0 ms", "floor 6.2 ms", "budget 20.0 ms"} <= {text.replace("6.20", "6.2") for text in texts}
    assert {shape["y0"] for shape in drawn["layout"]["shapes"]} == {52.0, 6.2, 20.0}


def test_the_file_needs_nothing_else(tmp_path):
    path = write_probe_page(DOCUMENT, tmp_path / "probe.html")
    text = path.read_text(encoding="utf-8")
    assert "Plotly.newPlot" in text
    assert len(text) > 1_000_000, "plotly itself is not inside"
    assert "cdn.plot.ly/plotly" not in text.split("<body>")[1][:500]
    assert [file.name for file in tmp_path.iterdir()] == ["probe.html"]


def test_a_file_that_cannot_be_written_is_refused_before_the_probe(tmp_path):
    for bad in (tmp_path, tmp_path / "nowhere" / "probe.html"):
        with pytest.raises(InputError, match="cannot be written"):
            check_page(bad)
    check_page(tmp_path / "probe.html")

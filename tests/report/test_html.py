"""The report: everything is in it, absent data leave a sentence, and it opens with no network."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from autoprune.errors import InputError, StudyNotFoundError
from autoprune.policy import PruningPolicy
from autoprune.report.gather import ReportData, TokenExample, gather
from autoprune.report.html import render, write_report
from autoprune.store import Store
from autoprune.testing.studies import study_record

EXAMPLE = TokenExample(["[CLS]", "</script>", "<b>", "sum"], [None, 0, 1, None], ["input lexicon 0.60", "L4 x 0.30"])
CHARTS = ("front", "latency", "staircase", "layers", "keep", "course", "course-time", "predicted")


def page_of(html: str) -> str:
    """The part that people read, without plotly."""
    return html.partition("<script>")[0]


def test_every_section_is_there(store: Store) -> None:
    page = page_of(render(gather(store, "s", [EXAMPLE])))
    for heading in ("The front", "Latency: dense against promised", "What fewer tokens cost", "Cost table",
                    "Tokens that enter each layer", "The search's course", "Predicted against measured",
                    "Which tokens go", "Environment"):  # fmt: skip
        assert heading in page, heading
    for chart in CHARTS:
        assert f'id="{chart}"' in page
    result = store.require_study("s").result or {}
    assert f"{result['best']['latency_ms']['p50']:.1f} ms" in page
    assert f"{result['best']['drop']:.4f}" in page
    assert "The budget is met." in page
    assert "Example CPU, 2 cores" in page
    assert "torch" in page
    assert "8 × 256" in page


def test_nothing_is_loaded_from_elsewhere(store: Store) -> None:
    html = render(gather(store, "s", [EXAMPLE]))
    page = html.partition("<script>")[0] + html.rpartition("</script>")[2]
    assert re.findall(r"(?:src|href)=\"(?!data:)[^\"]*\"", page) == []
    assert "@import" not in page
    assert "url(" not in page
    assert html.count("<script") - html.count("<script>") == page.count("<script ")


def test_text_from_studies_cannot_break_out(store: Store) -> None:
    data = gather(store, "s", [EXAMPLE])
    study = replace(
        data.study, name="<img src=x onerror=alert(1)>", task={"name": "</script><script>alert(1)</script>"}
    )
    html = render(replace(data, study=study))
    assert "<img src=x" not in html
    assert "<script>alert(1)" not in html
    assert "</script><script>alert" not in html
    assert "&lt;b&gt;" in html


def test_no_password_is_shown(with_password: Store) -> None:
    html = render(gather(with_password, "s", [EXAMPLE]))
    assert "geheim" not in html
    assert "sampler" in html


@pytest.mark.parametrize("status", ["running", "infeasible", "interrupted"])
def test_absent_data_leave_a_sentence(store: Store, status: str) -> None:
    record = replace(study_record("bare"), config={}, status=status, model={"name": "m"}, workload={}, hardware={})
    store.create_study(record)
    page = page_of(render(gather(store, "bare")))
    for sentence in ("No policy was both scored and timed", "There are no samples", "No probe is stored",
                     "No policy is on the front", "Nothing was evaluated", "No predictions are stored",
                     "No examples were asked for"):  # fmt: skip
        assert sentence in page
    assert "None" not in re.sub(r"<style>.*</style>", "", page, flags=re.DOTALL)
    assert 'class="chart' not in page


def test_result_without_a_promise(store: Store) -> None:
    result = dict(store.require_study("s").result or {}, best=None, status="not_met")
    store.set_result("s", "not_met", result)
    page = page_of(render(gather(store, "s")))
    assert "No policy that was tried meets the budget." in page
    assert "There are no samples of a promised policy." in page


def test_file_is_written_whole_or_not_at_all(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    path = write_report(store, "s", tmp_path / "out" / "report.html", [EXAMPLE])
    assert path.read_text(encoding="utf-8").endswith("</html>")
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]
    for nowhere in (path, tmp_path / "mistyped"):
        with pytest.raises(InputError, match=f"no folder {nowhere}"):
            write_report(store, "s", nowhere / "below.html", [])
        assert not (tmp_path / "mistyped").exists()
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        write_report(store, "s", tmp_path / "folder.html", [])
    assert not list(tmp_path.glob("**/*.part"))
    with pytest.raises(StudyNotFoundError):
        write_report(store, "none", tmp_path / "none.html")
    assert not (tmp_path / "none.html").exists()


def test_report_is_written_even_if_the_model_is_not_here(store: Store, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    from autoprune.errors import ModelError
    from autoprune.report import tokens

    def gone(*_: object) -> list[TokenExample]:
        raise ModelError("There is no model in /gone.")

    monkeypatch.setattr(tokens, "token_examples", gone)
    page = page_of(write_report(store, "s", tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "There is no model in /gone." in page


def test_it_opens_offline_with_every_chart_and_no_console_error(store: Store, tmp_path: Path, browse) -> None:  # type: ignore[no-untyped-def]
    path = write_report(store, "s", tmp_path / "report.html", [EXAMPLE])
    dom, console = browse(path.as_uri(), "--window-size=400,3000")
    assert console == []
    for chart in CHARTS:
        drawn = re.search(rf'id="{chart}"[^>]*>.*?<svg class="main-svg"', dom, re.DOTALL)
        assert drawn, chart
    assert "budget 20.0 ms" in dom


def test_dark_mode_recolours_the_charts(store: Store, tmp_path: Path, browse) -> None:  # type: ignore[no-untyped-def]
    path = write_report(store, "s", tmp_path / "report.html", [EXAMPLE])
    light, _ = browse(path.as_uri())
    dark, _ = browse(path.as_uri(), "--force-dark-mode")
    ink = {"light": "fill: rgb(15, 23, 42)", "dark": "fill: rgb(226, 232, 240)"}  # of the charts' texts
    assert ink["light"] in light
    assert ink["dark"] not in light
    assert ink["dark"] in dark


def test_gathered_figures(store: Store) -> None:
    data = gather(store, "s")
    assert isinstance(data, ReportData)
    scores = [point.score for point in data.course if point.score is not None]
    assert scores == sorted(scores)
    assert scores[-1] == max(point.score for point in data.front)
    assert [point.evaluations for point in data.course] == list(range(1, len(data.points) + 1))
    assert len(data.predicted) == len(data.points) - 1
    assert 0 < (data.prediction_error or 0) < 0.05
    best = data.best or {}
    assert sorted(data.best_samples)[len(data.best_samples) // 2] == pytest.approx(best["latency_ms"]["p50"], rel=0.05)
    shares = dict(data.keep)[best["trial"]]
    assert shares == [n / 256 for n in PruningPolicy.from_dict(best["policy"]).layer_counts(256, 6, 2)]
    stored = store.load_front("s", "front")
    assert stored is not None
    assert data.hypervolume == stored.hypervolume

"""The front in characters, the model card, the notes: figures stand where they belong."""

from dataclasses import dataclass, replace

import pytest

from autoprune.report import words
from autoprune.report.card import markdown_card, render_card
from autoprune.report.gather import gather
from autoprune.report.notes import study_note, trial_note
from autoprune.report.text import front_plot
from autoprune.store import Store
from autoprune.testing.studies import study_record


@dataclass
class P:
    latency_ms: float
    score: float


def test_plot_puts_points_where_they_belong() -> None:
    drawing = front_plot([P(10, 0.8), P(20, 0.9)], dense=(50, 0.95), best=(20, 0.9), limit_ms=30, width=60, height=10)
    lines = drawing.splitlines()
    assert len(lines) == 13
    assert max(map(len, lines)) <= 60
    assert "◆" in lines[0]
    assert lines[0].index("◆") == max(line.rfind("◆") for line in lines)
    assert "●" in lines[9]
    column = lines[0].index("│")
    assert all(line[column] == "│" for line in lines[1:10] if len(line) > column)
    assert lines[9].index("●") < column < lines[0].index("◆")
    assert "★" in drawing
    assert "budget 30.0 ms" in lines[-1]


def test_plot_of_nothing_and_of_one_point() -> None:
    assert front_plot([]) == "Nothing was both scored and timed yet."
    assert front_plot([P(5, 0.5)]).count("●") == 2  # the point and the legend
    assert "●" in front_plot([P(0.0, 0.0), P(float("inf"), 0.0)])


def test_plot_of_a_study_fits_a_terminal(store: Store) -> None:
    front = store.front("s", 20.0)
    drawing = front_plot(front, others=store.points("s"), limit_ms=20.0, width=80)
    assert max(map(len, drawing.splitlines())) <= 80


def test_card_has_the_figures(store: Store) -> None:
    card = markdown_card(store, "s")
    best = (store.require_study("s").result or {})["best"]
    for part in ("## Token pruning", "| accuracy | 0.9400 |", f"{best['drop']:.4f}", f"{best['ratio']:.3f}",
                 "- budget: 20ms", "Example CPU", "torch 2.13.0", '"version": 1'):  # fmt: skip
        assert part in card, part
    assert all(line.count("|") == 4 for line in card.splitlines() if line.startswith("|"))


def test_card_without_a_promise(store: Store) -> None:
    store.create_study(study_record("bare"))
    card = render_card(gather(store, "bare"))
    assert "The search has not finished." in card
    assert "pruned" not in card


def test_note_without_a_promise(store: Store) -> None:
    store.create_study(replace(study_record("bare"), status="infeasible"))
    note = study_note(gather(store, "bare"))
    assert "under the floor" in note
    assert "autoprune export" not in note


def test_trial_note_names_every_kind_of_selector() -> None:
    stages = [{"layer": 1, "scorer": "a", "keep": 0.5}, {"layer": 2, "scorer": "b", "mass": 0.9, "reduce": "fuse"},
              {"layer": 3, "scorer": "c", "threshold": 1.25}]  # fmt: skip
    note = trial_note(4, {"version": 1, "stages": stages})
    for row in (
        "| 1 | a | 50.0 % | drop |",
        "| 2 | b | 90.0 % of the score | fuse |",
        "| 3 | c | scores from 1.250 | drop |",
    ):
        assert row in note
    assert "newer version" in trial_note(4, {"version": 99})


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (words.ms(None), "–"), (words.ms(4.256), "4.26 ms"), (words.ms(18.66), "18.7 ms"), (words.ms(123.4), "123 ms"),
        (words.percent(0.385), "38.5 %"), (words.times(2.714), "2.71×"), (words.interval([0.1, None]), "–"),
        (words.interval((0.12345, 0.2)), "[0.1235, 0.2000]"), (words.verdict("odd"), "odd"),
        (words.pick({"a": {"b": 1}}, "a", "b"), 1), (words.pick({"a": 3}, "a", "b"), None),
        (words.policy_line(None), "–"),
    ],
)  # fmt: skip
def test_words(found: object, wanted: object) -> None:
    assert found == wanted

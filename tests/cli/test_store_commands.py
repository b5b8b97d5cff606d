"""The commands that answer from the database, on a made-up study in a real one."""

import csv
import io
import json
import shlex
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from autoprune.policy import PruningPolicy
from autoprune.store import MeasurementRow, Store
from autoprune.testing.studies import make_study, study_record

Cli = Callable[..., Any]
STUDY = "example-1a2b3c4d"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("db") / "studies.db"
    with Store.open(path) as store:
        make_study(store, STUDY)
    return path


@pytest.fixture
def db(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUTOPRUNE_DB", str(made))
    return made


def test_studies_lists(cli: Cli, db: Path) -> None:
    ran = cli("studies")
    assert ran.code == 0
    assert STUDY in ran.out
    rows = cli("studies", "--json").json["studies"]
    assert [row["name"] for row in rows] == [STUDY]
    assert cli("studies", "--model", "another", "--json").json["studies"] == []
    assert "No studies fit these filters" in cli("studies", "--hardware", "here").out
    assert STUDY in cli("studies", "--hardware", "any").out
    assert "No studies yet" in cli("studies", "--hardware", "any", "--db", db.with_name("empty.db")).out


def test_an_empty_database_says_what_to_do(cli: Cli, tmp_path: Path) -> None:
    assert "autoprune search --budget 20ms" in cli("studies", "--db", tmp_path / "new.db").out


def test_show_reads_for_people_and_for_programs(cli: Cli, db: Path) -> None:
    document = cli("show", STUDY, "--json").json
    assert document["study"] == STUDY
    out = cli("show", STUDY).out
    best = document["best"]
    assert f"{best['score']:.4f}" in out
    assert f"autoprune export {STUDY} -o pruned" in out
    assert "transformers.pipeline" in out
    assert "★ promised   │ budget 20.0 ms" in out  # the front, drawn


def test_a_study_that_is_not_there(cli: Cli, db: Path) -> None:
    for command in (
        ["show"],
        ["front"],
        ["export", "-o", "x"],
        ["studies", "delete", "--yes"],
        ["db", "export", "-o", "y"],
    ):
        ran = cli(*command, "nope", "--json")
        assert ran.code == 2, command
        assert ran.json["error"]["code"] == "study_not_found"


def test_front_answers_another_budget(cli: Cli, db: Path) -> None:
    every = cli("front", STUDY, "--budget", "100%", "--json").json
    tight = cli("front", STUDY, "--budget", "10ms", "--json").json
    assert 0 < len(tight["front"]) < len(every["front"])
    assert all(row["ratio_ci95"][1] * 48.0 <= 10.0 + 1e-9 for row in tight["front"])


def test_front_without_an_answer_says_so_and_ends_with_3(cli: Cli, db: Path) -> None:
    ran = cli("front", STUDY, "--budget", "0.1ms")
    assert (ran.code, ran.out) == (3, "")
    nearest = cli("front", STUDY, "--budget", "0.1ms", "--json").json["nearest_infeasible"]
    assert ran.err.startswith(f"No stored policy of {STUDY} is sure to meet 0.10 ms (p50). ")
    assert f"The nearest, trial {nearest['trial']}, " in ran.err
    ran = cli("front", STUDY, "--budget", "0.1ms", "--json")
    assert (ran.code, ran.json["front"]) == (3, [])
    assert cli("front", STUDY, "--budget", "100%").code == 0


def test_front_of_a_study_that_dense_meets(cli: Cli, tmp_path: Path) -> None:
    db = tmp_path / "met.db"
    with Store.open(db) as store:
        begin(store, "met")
    ran = cli("front", "met", "--budget", "60ms", "--db", db)
    assert (ran.code, ran.out) == (0, "")
    assert "Dense meets 60.0 ms (p50) without pruning: 48.0 ms" in ran.err


def test_export_without_a_best_names_a_command_that_answers(cli: Cli, tmp_path: Path) -> None:
    db = tmp_path / "p95 of mine.db"
    with Store.open(db) as store:
        record = study_record("mine")
        store.create_study(replace(record, budget=record.budget | {"text": "20ms@p95", "statistic": "p95"}))
        dense = {"p50": 48.0, "p95": 52.0, "mean": 48.5}
        row = MeasurementRow("probe", {"dense": dense, "policy": dense}, 1.0, 1.0, 1.0, "p95", latency_ms=52.0)
        store.add_measurement("mine", 0, store.add_policy(PruningPolicy()), row)
    hint = cli("export", "mine", "-o", tmp_path / "out", "--db", db, "--json").json["error"]["hint"]
    command = shlex.split(hint.split("`")[1])
    assert command[0] == "autoprune"
    assert cli(*command[1:]).code == 0


def test_lists_without_rows_keep_their_header(cli: Cli, db: Path, tmp_path: Path) -> None:
    pairs = {
        ("front", STUDY, "--budget", "100%"): ("front", STUDY, "--budget", "0.1ms"),
        ("best", "--budget", "1s", "--hardware", "any"): ("best", "--budget", "0.1ms", "--hardware", "any"),
        ("studies",): ("studies", "--model", "another"),
    }
    for full, empty in pairs.items():
        header = cli(*full, "--csv").out.splitlines()[0]
        assert cli(*empty, "--csv").out == f"{header}\n"
        file = tmp_path / f"{full[0]}.parquet"
        cli(*empty, "--parquet", file)
        assert pq.read_table(file).column_names == header.split(",")


def begin(store: Store, name: str, *, measured: bool = True) -> None:
    """Make a study as a search does that ends with the probe, or that is killed right after it began."""
    store.create_study(study_record(name))
    if measured:
        dense = {"p50": 48.0, "p95": 52.0, "mean": 48.5}
        row = MeasurementRow("probe", {"dense": dense, "policy": dense}, 1.0, 1.0, 1.0, latency_ms=48.0)
        store.add_measurement(name, 0, store.add_policy(PruningPolicy()), row)


@pytest.fixture
def cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database with a study whose driver was killed before dense was stored, beside a finished one."""
    path = tmp_path / "cut.db"
    with Store.open(path) as store:
        begin(store, "cut-short", measured=False)
        make_study(store, STUDY, n_trials=6)
    monkeypatch.setenv("AUTOPRUNE_DB", str(path))
    return path


@pytest.mark.parametrize(
    "command",
    [
        ("front", "cut-short"),
        ("front", "cut-short", "--budget", "50%"),
        ("show", "cut-short"),
        ("report", "cut-short", "-o", "OUT/r.html"),
        ("report", "cut-short", "--markdown"),
        ("export", "cut-short", "-o", "OUT/x"),
        ("export", "cut-short", "--trial", "1", "-o", "OUT/x"),
    ],
)
def test_a_study_without_figures_says_what_to_do(
    cli: Cli, cut_short: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    words = [word.replace("OUT", str(tmp_path)) for word in command]
    ran = cli(*words)
    assert ran.code == 2
    assert "error: The study 'cut-short'" in ran.err
    assert "stopped right after it began" in ran.err
    assert "hint: Repeat the search command; it goes on." in ran.err
    assert cli(*words, "--json").json["error"]["code"] == "store"
    assert {path.name for path in tmp_path.iterdir()} & {"r.html", "x"} == set()


def test_a_study_without_figures_is_in_nobodys_way(cli: Cli, cut_short: Path) -> None:
    from autoprune.report.publish import publish_all

    best = cli("best", "--budget", "1s", "--hardware", "any", "--json").json["best"]
    assert {row["study"] for row in best} == {STUDY}
    assert cli("history", best[0]["digest"]).code == 0
    assert "cut-short" in cli("studies").out
    assert cli("db", "check").code == 0
    with Store.open(cut_short) as store:
        assert publish_all(store) == [STUDY]  # what `autoprune dashboard` does before it serves
    assert cli("studies", "delete", "cut-short", "--yes").code == 0


def test_an_ambiguous_beginning_names_the_studies(cli: Cli, tmp_path: Path) -> None:
    db = tmp_path / "two.db"
    with Store.open(db) as store:
        begin(store, "twin-a")
        begin(store, "twin-b")
    for command in ("show", "front"):
        ran = cli(command, "twin", "--db", db)
        assert ran.code == 2
        assert "ambiguous" in ran.err
        assert "twin-a, twin-b" in ran.err
    assert cli("show", "twin", "--db", db, "--json").json["error"]["code"] == "study_ambiguous"
    assert cli("front", "twin-a", "--budget", "60ms", "--db", db).code == 0


def test_front_as_csv_and_parquet(cli: Cli, db: Path, tmp_path: Path) -> None:
    rows = cli("front", STUDY, "--json").json["front"]
    table = list(csv.DictReader(io.StringIO(cli("front", STUDY, "--csv").out)))
    assert [float(row["score"]) for row in table] == [row["score"] for row in rows]
    assert {"latency_ms.p50", "ratio_ci95.low", "ratio_ci95.high", "policy"} <= set(table[0])
    file = tmp_path / "front.parquet"
    ran = cli("front", STUDY, "--parquet", file)
    assert (ran.code, ran.out) == (0, "")
    assert pq.read_table(file).column("score").to_pylist() == [row["score"] for row in rows]
    assert cli("front", STUDY, "--csv", "--json").json["error"]["code"] == "input"
    ran = cli("front", STUDY, "--parquet", tmp_path / "no" / "where.parquet")
    assert (ran.code, "cannot be written" in ran.err) == (2, True)


def test_best_over_all_studies(cli: Cli, db: Path) -> None:
    assert cli("best", "--budget", "20ms", "--json").json["best"] == []  # made on other hardware
    assert cli("best", "--budget", "20ms").code == 3
    assert "try --hardware any" in cli("best", "--budget", "20ms").err
    rows = cli("best", "--budget", "20ms", "--hardware", "any", "--json").json["best"]
    assert rows
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
    assert STUDY in cli("best", "--budget", "20ms", "--hardware", "any").out
    ran = cli("best", "--budget", "40%")
    assert ran.code == 2
    assert "relative" in ran.err


def test_history_of_a_policy(cli: Cli, db: Path) -> None:
    digest = cli("best", "--budget", "1s", "--hardware", "any", "--json").json["best"][0]["digest"]
    rows = cli("history", digest[:12], "--json").json["history"]
    assert {row["what"] for row in rows} == {"evaluation", "measurement"}
    assert STUDY in cli("history", digest).out
    listed = cli("front", STUDY, "--json").json["front"]  # where the hint for an unknown digest sends its reader
    assert all(cli("history", row["digest"], "--json").json["history"] for row in listed)
    assert cli("history", "ffffffffffff").code == 2


def test_db_path_opens_nothing(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x.db"
    assert cli("db", "path", "--db", path).out.strip() == str(path)
    assert not path.parent.exists()
    assert cli("db", "path", "--db", "postgresql://me:secret@host/x", "--json").json == {
        "path": "postgresql://me:***@host/x"
    }


def test_db_housekeeping(cli: Cli, db: Path) -> None:
    assert cli("db", "check").code == 0
    assert cli("db", "check", "--json").json["ok"] is True
    assert cli("db", "vacuum", "--json").json["bytes_after"] > 0
    assert "->" in cli("db", "upgrade").out


def test_db_check_fails_on_damage(cli: Cli, db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from autoprune.store import upkeep

    monkeypatch.setattr(upkeep, "check", lambda _store: [upkeep.Finding("file", False, "torn")])
    ran = cli("db", "check")
    assert ran.code == 1
    assert "WRONG" in ran.out


def test_a_study_travels_as_one_file(cli: Cli, db: Path, tmp_path: Path) -> None:
    file, other = tmp_path / "study.zip", tmp_path / "other.db"
    assert cli("db", "export", STUDY, "-o", file, "--json").json["bytes"] > 0
    assert cli("db", "import", file, "--name", "copy", "--db", other).code == 0
    here, there = cli("front", STUDY, "--json").json, cli("front", "copy", "--db", other, "--json").json
    assert here["front"] == there["front"]
    assert cli("db", "import", tmp_path / "none.zip").code == 2


def test_report_is_written_whole(cli: Cli, db: Path, tmp_path: Path) -> None:
    file = tmp_path / "r.html"
    ran = cli("report", STUDY, "-o", file)
    assert (ran.code, ran.out) == (0, f"wrote {file}\n")
    assert STUDY in file.read_text()
    assert cli("report", STUDY, "-o", file, "--json").json == {"study": STUDY, "file": str(file)}
    ran = cli("report", STUDY, "-o", tmp_path / "mistyped" / "r.html")
    assert ran.code == 2
    assert f"no folder {tmp_path / 'mistyped'}" in ran.err
    assert not (tmp_path / "mistyped").exists()


def test_report_as_a_card(cli: Cli, db: Path) -> None:
    text = cli("report", STUDY, "--markdown").out
    assert text.startswith("## Token pruning\n")
    assert cli("report", STUDY, "--markdown", "--json").json["markdown"].strip() == text.strip()


def test_dashboard_serves_the_studies_until_ctrl_c(db: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "autoprune", "dashboard", "--port", "0", "--db", str(db)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "http://" in line)
        address = line[line.index("http://") :].split()[0]
        with urllib.request.urlopen(f"{address}api/studies", timeout=60) as reply:
            names = [study["study_name"] for study in json.load(reply)["study_summaries"]]
        assert names == [STUDY]
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert "Traceback" not in err
    finally:
        process.kill()
        process.communicate()


def test_dashboard_on_a_port_that_is_taken(cli: Cli, db: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ran = cli("dashboard", "--port", str(taken.getsockname()[1]))
    assert ran.code == 2
    assert "--port" in ran.err


def test_delete_asks_first(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = tmp_path / "d.db"
    with Store.open(db) as store:
        make_study(store, STUDY, n_trials=3)
    for answer in ("n\n", ""):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        ran = cli("studies", "delete", STUDY, "--db", db)
        assert ran.code == 2
        assert STUDY in cli("studies", "--db", db).out
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    ran = cli("studies", "delete", STUDY, "--db", db)
    assert (ran.code, ran.out) == (0, f"deleted {STUDY}\n")
    assert cli("studies", "--db", db, "--json").json["studies"] == []


@pytest.mark.parametrize("url", ["mysql://me:secret@host/x", "postgresql://me:secret@127.0.0.1:1/x"])
def test_a_database_that_cannot_be_opened(cli: Cli, url: str) -> None:
    for command in (["studies"], ["search", "--budget", "20ms"], ["db", "check"]):
        ran = cli(*command, "--db", url)
        assert ran.code == 2, ran.err
        assert "error: " in ran.err
        assert "secret" not in ran.err
        assert "Traceback" not in ran.err


def test_json_documents_are_strict(cli: Cli, db: Path) -> None:
    def refuse(text: str) -> None:
        raise AssertionError(text)

    for command in (["studies"], ["show", STUDY], ["front", STUDY], ["methods"], ["spaces", "list"], ["db", "path"]):
        json.loads(cli(*command, "--json").out, parse_constant=refuse)

"""The commands that run models hand their options on and render what they get; the engine is a stand-in here."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autoprune.budget import Budget
from autoprune.config import SearchConfig
from autoprune.engine import driver, probing, queries
from autoprune.engine.result import SearchResult

Cli = Callable[..., Any]
POLICY = {
    "version": 1,
    "stages": [{"layer": 4, "scorer": "cls_attention", "keep": 0.35, "reduce": "drop"}],
    "protect": {"prefix": 1, "special_tokens": True, "pattern": None},
    "last_layer": "full",
}
ROW = {
    "trial": 7,
    "policy": POLICY,
    "latency_ms": {"p50": 18.7, "p95": 19.1, "mean": 18.8},
    "ratio": 0.374,
    "ratio_ci95": [0.37, 0.38],
    "speedup": 2.674,
    "score": 0.918,
    "drop": 0.009,
    "drop_ci95": [0.004, 0.014],
    "kl": 0.02,
    "agreement": 0.97,
    "flops_ratio": 0.36,
    "end_to_end_ms": 19.3,
    "verified": True,
}


def document(status: str = "met", **changes: Any) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "study": "minilm-docstrings-3f2a1b00",
        "db": "sqlite:////data/autoprune.db",
        "budget": {"text": "20ms", "statistic": "p50", "limit_ms": 20.0},
        "status": status,
        "dense": {"latency_ms": {"p50": 50.0, "p95": 52.0, "mean": 50.5}, "score": 0.927, "n_examples": 1200},
        "floor_ms": 6.2,
        "workload": {},
        "hardware": {},
        "best": ROW if status == "met" else None,
        "nearest_infeasible": None,
        "front": [ROW] if status == "met" else [],
        "trials": {"complete": 30, "stopped": 5, "failed": 1},
        "elapsed_s": 312.4,
        "versions": {},
        **changes,
    }


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Put a stand-in in the place of the driver; it keeps the configuration and returns ``result``."""
    seen: dict[str, Any] = {"result": document()}

    def search(config: SearchConfig, observer: Any) -> SearchResult:
        seen["config"] = config
        observer.phase("search", 2)
        observer.advance()
        observer.message("baseline 50.0 ms")
        return SearchResult(seen["result"])

    monkeypatch.setattr(driver, "search", search)
    return seen


def test_every_option_reaches_the_configuration(cli: Cli, engine: dict[str, Any], tmp_path: Path) -> None:
    ran = cli(
        "search", "--budget", "2x@p95", "--model", "m", "--dataset", "d.csv", "--metric", "f1", "--trials", "9",
        "--time-limit", "10m", "--space", "quick", "--sampler", "tpe", "--seed", "3", "--workers", "2",
        "--gpus-per-worker", "0.25",
        "--ray-address", "auto", "--db", tmp_path / "x.db", "--study", "s", "--batch-size", "4", "--seq-len", "data",
        "--threads", "2", "--device", "cpu", "--dtype", "bfloat16",
        "--attention", "eager", "--runtime", "compile", "--out", tmp_path / "o", "--new", "--split", "test",
        "--text-column", "a", "--text-column", "b", "--label-column", "y", "--trust-remote-code", "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert engine["config"] == SearchConfig.of(
        budget="2x@p95", model="m", dataset="d.csv", metric="f1", trials=9, time_limit=600.0, space="quick",
        sampler="tpe", seed=3, workers=2, gpus_per_worker=0.25, ray_address="auto", db=str(tmp_path / "x.db"),
        study="s", batch_size=4, seq_len="data", threads=2, device="cpu", dtype="bfloat16",
        attention="eager", runtime="compile", out=tmp_path / "o", new=True, split="test",
        text_columns=("a", "b"), label_column="y", trust_remote_code=True,
    )  # fmt: skip
    assert ran.json == engine["result"]


def test_defaults_are_those_of_the_configuration(cli: Cli, engine: dict[str, Any]) -> None:
    assert cli("search", "--budget", "20ms").code == 0
    assert engine["config"] == SearchConfig.of(budget="20ms")


def test_a_negative_share_of_a_gpu_is_bad_input(cli: Cli, engine: dict[str, Any]) -> None:
    ran = cli("search", "--budget", "20ms", "--gpus-per-worker", "-0.5")
    assert ran.code == 2
    assert "must be 0, a share of one GPU" in ran.err
    assert "config" not in engine


def test_the_database_can_come_from_the_environment(
    cli: Cli, engine: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOPRUNE_DB", "/some/where.db")
    cli("search", "--budget", "20ms")
    assert engine["config"].db == "/some/where.db"


def test_a_met_budget_for_people(cli: Cli, engine: dict[str, Any]) -> None:
    ran = cli("search", "--budget", "20ms")
    assert ran.code == 0
    for words in (
        "The budget is met.",
        "18.7 ms   2.67× faster   ratio 0.374 [0.370, 0.380]",
        "drop 0.0090 [0.0040, 0.0140]",
        "measured again in a fresh process",
        "L4 cls_attention 0.35",
        "autoprune export minilm-docstrings-3f2a1b00 -o pruned",
        "autoprune bench pruned",
        'autoprune.load("pruned")',
    ):
        assert words in ran.out
    # What is to be copied into Python stands at the left edge.
    assert "\nimport autoprune, transformers\n" in ran.out
    assert "baseline 50.0 ms" in ran.err
    assert "search (0/2)" in ran.err


def test_the_export_of_out_is_not_repeated(cli: Cli, engine: dict[str, Any]) -> None:
    out = cli("search", "--budget", "20ms", "--out", "there").out
    assert "autoprune export" not in out
    assert "autoprune bench there" in out


def test_the_next_commands_name_the_database_only_where_an_option_did(
    cli: Cli, engine: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine["result"] = document(db="postgresql://me:***@host/x")
    out = cli("search", "--budget", "20ms", "--db", "postgresql://me:secret@host/x").out
    assert "-o pruned --db 'postgresql://me:***@host/x'\n" in out
    assert "secret" not in out
    monkeypatch.setenv("AUTOPRUNE_DB", "postgresql://me:secret@host/x")
    assert "--db" not in cli("search", "--budget", "20ms").out


@pytest.mark.parametrize(
    ("status", "changes", "code", "words"),
    [
        ("already_met", {"best": ROW}, 0, "without pruning"),
        ("infeasible", {}, 3, "floor, which no policy gets under, is 6.20 ms"),
        ("not_met", {"nearest_infeasible": {**ROW, "ratio_ci95": [0.42, 0.44]}}, 3, "policy meets: 22.0ms@p50."),
        ("too_noisy", {}, 4, "autoprune doctor"),
        ("interrupted", {}, 130, "same command goes on"),
    ],
)
def test_other_ends(
    cli: Cli, engine: dict[str, Any], status: str, changes: dict[str, Any], code: int, words: str
) -> None:
    engine["result"] = document(status, **changes)
    ran = cli("search", "--budget", "20ms")
    assert ran.code == code
    assert words in ran.out
    ran = cli("search", "--budget", "20ms", "--json")
    assert ran.code == code
    assert ran.json["status"] == status


def test_what_was_not_scored_has_no_score(cli: Cli, engine: dict[str, Any]) -> None:
    # The probe alone answers: dense meets the budget, and nothing was scored.
    dense = {"latency_ms": {"p50": 15.0, "p95": 16.0, "mean": 15.1}, "score": None, "n_examples": 0}
    best = {**ROW, "trial": 0, "policy": {**POLICY, "stages": []}, "score": None, "drop": 0.0, "drop_ci95": [0.0, 0.0]}
    engine["result"] = document("already_met", dense=dense, best=best)
    out = cli("search", "--budget", "20ms").out
    assert "dense    15.0 ms   not scored\n" in out
    assert "\n         not scored\n" in out
    assert "score –" not in out
    assert "drop" not in out


def test_the_time_limit_says_what_it_covers(cli: Cli) -> None:
    text = " ".join(cli("search", "--help").out.split())
    assert "Begin no new policy after 90s, 10m, 1h" in text
    assert "probe, policies that are under way and the verification of the winners are never cut short" in text


@pytest.mark.parametrize(("statistic", "dense_ms"), [("p50", 50), ("p95", 52)])
def test_the_smallest_budget_named_is_met_by_front(
    cli: Cli, engine: dict[str, Any], statistic: str, dense_ms: float
) -> None:
    # The command that is printed must not miss its own policy by rounding down, nor ask for another statistic.
    budget = {"text": f"20ms@{statistic}", "statistic": statistic, "limit_ms": 20.0}
    engine["result"] = document("not_met", budget=budget, nearest_infeasible={**ROW, "ratio_ci95": [0.42, 0.44123]})
    line = next(line for line in cli("search", "--budget", "20ms").out.splitlines() if "autoprune front" in line)
    named = Budget.parse(line.split("--budget ")[1])
    assert named.statistic == statistic
    assert (named.absolute_ms or 0) >= dense_ms * 0.44123


def test_bad_options_are_refused_before_anything_runs(cli: Cli, engine: dict[str, Any]) -> None:
    for args in (["--model", "m"], ["--dataset", "d.csv"], ["--text-column", "a"] * 3):
        ran = cli("search", "--budget", "20ms", *args, "--json")
        assert (ran.code, ran.json["error"]["code"]) == (2, "config")
    assert "config" not in engine


def test_dense_that_moved_is_shown(cli: Cli, engine: dict[str, Any]) -> None:
    dense = engine["result"]["dense"]
    assert "  now" not in cli("search", "--budget", "20ms").out
    engine["result"]["dense"] = {**dense, "drift": {"latency_ms": {"p50": 60.0, "p95": 62.0, "mean": 60.5}}}
    assert "60.0 ms (+20%): latencies here are shares of 50.0 ms" in cli("search", "--budget", "20ms").out


def test_probe(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    class Report:
        def to_json(self) -> dict[str, Any]:
            return {"floor_ms": 6.2}

        def lines(self) -> list[str]:
            return ["dense 50.0 ms"]

    seen: list[SearchConfig] = []
    asked: list[dict[str, Any]] = []

    def stand_in(config: SearchConfig, _observer: object, **more: Any) -> Report:
        seen.append(config)
        asked.append(more)
        return Report()

    monkeypatch.setattr(probing, "run_probe", stand_in)
    assert cli("probe", "--seq-len", "32,128", "--json").json == {"floor_ms": 6.2}
    assert seen.pop().seq_len == (32, 128)
    assert cli("probe", "--seq-len", "128", "--json").json == {"floor_ms": 6.2}
    assert cli("probe").out == "dense 50.0 ms\n"
    assert seen[0].seq_len == 128
    assert asked[0] == {"fresh": False, "batch_sizes": ()}
    cli("probe", "--fresh", "--throughput", "32,1, 8", "--ray-address", "auto", "--attention", "eager")
    assert asked[3] == {"fresh": True, "batch_sizes": (1, 8, 32)}
    assert (seen[2].ray_address, seen[2].attention) == ("auto", "eager")
    assert cli("probe", "--throughput", "1,none").code == 2
    assert cli("probe", "--plot", "/nowhere/at/all.html", "--json").json["error"]["code"] == "input"
    assert len(seen) == 3


def test_export(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Any] = []

    def export(*args: Any, onnx: bool) -> dict[str, Any]:
        seen.extend(args)
        graph = {"file": "model.onnx", "inputs": {"input_ids": [1, 256]}}
        return {"directory": str(tmp_path), "trial": 7, **({"onnx": graph} if onnx else {})}

    monkeypatch.setattr(queries, "export", export)
    ran = cli("export", "s", "--trial", "7", "-o", tmp_path / "out", "--db", "x.db")
    assert seen[:4] == ["x.db", "s", 7, tmp_path / "out"]
    assert f"wrote {tmp_path}\n" in ran.out
    assert f"autoprune bench {tmp_path / 'out'}" in ran.out
    assert "model.onnx" not in ran.out
    assert cli("export", "s", "-o", tmp_path / "out", "--json").json["trial"] == 7
    ran = cli("export", "s", "-o", tmp_path / "out", "--onnx")
    assert "model.onnx takes 1 x 256 token ids without padding" in ran.out
    assert f'session = onnxruntime.InferenceSession("{tmp_path / "out" / "model.onnx"}")' in ran.out


@pytest.mark.parametrize(
    ("holds", "noisy", "code", "words"),
    [
        (True, False, 0, "The promise holds."),
        (False, False, 3, "does not hold"),
        (False, True, 4, "disturbed"),
        (None, False, 0, "There is no promise."),
    ],
)
def test_bench(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, holds: bool | None, noisy: bool, code: int, words: str
) -> None:
    answer = {
        "promised": ROW,
        "measured": {**ROW, "ratio": 0.5, "noisy": noisy},
        "holds": holds,
        "same_hardware": False,
        "resources": {
            "dense": {"memory_peak": 400 * 2**20, "flops": 9.1e9, "energy": "not available here"},
            "policy": {"memory_peak": None, "flops": 4.2e9, "energy": "not available here"},
        },
    }
    asked: list[Any] = []
    monkeypatch.setattr(queries, "bench", lambda _directory, _observer, settings: asked.append(settings) or answer)
    ran = cli("bench", "somewhere")
    assert ran.code == code
    assert words in ran.out
    assert "0.3740" in ran.out
    assert "0.5000" in ran.out
    assert "other hardware" in ran.out
    assert all(text in ran.out for text in ("400", "9.1", "4.2", "not available here"))
    assert cli("bench", "somewhere", "--json", "--interval", "0.5%", "--time-cap", "2m").code == code
    assert [(round(one.half_width, 5), one.max_seconds) for one in asked] == [(0.015, 30), (0.0025, 120)]


def test_bench_of_no_export(cli: Cli, tmp_path: Path) -> None:
    ran = cli("bench", tmp_path, "--json")
    assert (ran.code, ran.json["error"]["code"]) == (2, "model")
    assert "autoprune_policy.json" in ran.json["error"]["message"]


def test_methods_lists_every_registered_one(cli: Cli) -> None:
    found = cli("methods", "--json").json
    assert {"random", "truncate", "lexicon", "cls_attention"} <= {entry["name"] for entry in found["scorers"]}
    assert {"drop", "fuse"} <= {entry["name"] for entry in found["reducers"]}
    assert "BERT" in {entry["name"] for entry in found["families"]}
    family = {entry["name"]: entry for entry in found["families"]}
    assert family["BERT"]["searchable"]
    assert {"after_attention", "input_stage", "first_token_shortcut"} <= set(family["BERT"])
    assert not family["BART encoder"]["searchable"]
    assert any(cell["scorer"] == "cls_attention" and cell["reason"] for cell in family["Llama"]["refused"])
    out = cli("methods").out
    assert next(line.split()[1:3] for line in out.splitlines() if "BERT  " in line) == ["search,", "attach;"]
    assert "attach only" in next(line for line in out.splitlines() if "ViT" in line)
    assert all(entry["summary"] and entry["summary"] in out for entries in found.values() for entry in entries)


def test_spaces(cli: Cli, tmp_path: Path) -> None:
    assert "quick" in cli("spaces", "list").out
    text = cli("spaces", "show", "quick").out
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    assert cli("spaces", "validate", file).code == 0
    assert cli("spaces", "show", "quick", "--json").json["name"] == "quick"
    file.write_text(text.replace("version: 1", "version: 1\nspeed: 3"))
    ran = cli("spaces", "validate", file)
    assert ran.code == 2
    assert "line" in ran.err
    assert "speed" in ran.err
    assert cli("spaces", "show", "nope").code == 2


def test_doctor_names_what_is_missing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    from autoprune.latency import hardware

    monkeypatch.setattr(hardware, "machine_warnings", lambda: ["Other processes use 1.5 of 2 cores."])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    ran = cli("doctor", "--db", "mysql://host/x")
    assert ran.code == 0
    assert "Other processes use 1.5 of 2 cores." in ran.out
    assert "pip install 'autoprune[postgres]'" in ran.out
    assert "mysql" in ran.out
    found = cli("doctor", "--json").json
    assert {entry["extra"] for entry in found["missing_extras"]} == {"postgres", "mlflow", "onnx"}
    assert found["packages"]["torch"]
    assert found["warnings"] == ["Other processes use 1.5 of 2 cores."]

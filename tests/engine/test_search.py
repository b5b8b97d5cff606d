"""A whole search on a small model: real hidden states, real timing, a real database."""

import json
import re
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest

import autoprune
from autoprune.config import SearchConfig
from autoprune.engine import queries, session
from autoprune.engine.driver import search
from autoprune.errors import ConfigError
from autoprune.policy import PruningPolicy
from autoprune.store.repository import Store

FIELDS = {
    "trial", "policy", "digest", "latency_ms", "ratio", "ratio_ci95", "speedup", "score", "drop", "drop_ci95", "kl",
    "agreement", "flops_ratio", "end_to_end_ms", "verified",
}  # fmt: skip
KEYS = {
    "schema_version", "study", "db", "budget", "status", "dense", "floor_ms", "workload", "hardware", "best",
    "nearest_infeasible", "front", "trials", "elapsed_s", "versions", "metric", "seconds",
}  # fmt: skip
STATISTICS = {"p50", "p95", "mean"}


def test_every_field_is_documented():
    text = (Path(__file__).resolve().parents[2] / "docs" / "json.md").read_text()
    described = set(re.findall(r"`(\w+)`", text))
    assert (KEYS | FIELDS | STATISTICS) - described == set()


@pytest.fixture(scope="module")
def module_options(small_model, small_data, tmp_path_factory):
    return {
        "model": str(small_model),
        "dataset": str(small_data),
        "budget": "90%",
        "trials": 4,
        "workers": 1,
        "threads": 1,
        "db": str(tmp_path_factory.mktemp("db") / "studies.db"),
    }


@pytest.fixture(scope="module")
def found(module_options):
    return search(SearchConfig.of(**module_options))


def test_the_document_has_the_promised_fields(found):
    document = json.loads(json.dumps(found.to_json()))
    assert set(document) - {"exhausted", "converged"} == KEYS
    assert set(document["budget"]) == {"text", "statistic", "limit_ms"}
    assert set(document["dense"]) == {"latency_ms", "score", "n_examples", "drift"}
    assert set(document["dense"]["latency_ms"]) == STATISTICS
    assert set(document["trials"]) == {"complete", "stopped", "failed"}
    assert document["schema_version"] == 1
    for row in [*document["front"], *filter(None, [document["best"], document["nearest_infeasible"]])]:
        assert set(row) == FIELDS
        assert set(row["latency_ms"]) == STATISTICS
        assert row["digest"] == PruningPolicy.from_dict(row["policy"]).digest()
        assert row["ratio_ci95"][0] <= row["ratio"] <= row["ratio_ci95"][1]
        assert row["drop_ci95"][0] <= row["drop"] <= row["drop_ci95"][1]
    assert document["dense"]["n_examples"] > 0
    assert (document["best"] is None) == (document["status"] not in ("met", "already_met"))


def test_the_best_is_verified_and_within_the_budget(found):
    if found.best is None:
        pytest.skip(f"this machine answered {found.status}")
    assert found.best.verified
    assert found.best.ratio_ci95[1] <= 0.9
    assert found.best.flops_ratio < 1


def test_optuna_itself_sees_the_same_front(found, module_options):
    study = optuna.load_study(study_name=found.data["study"], storage=f"sqlite:///{module_options['db']}")
    assert study.metric_names == ["latency_ms", "score"]
    assert study.trials[0].state is optuna.trial.TrialState.COMPLETE
    assert json.loads(study.trials[0].user_attrs["policy"])["stages"] == []
    theirs = {t.number: tuple(t.values) for t in study.best_trials}
    with Store.open(module_options["db"]) as store:
        stored = store.load_front(found.data["study"], "front")
        assert {row.trial: (row.latency_ms, row.score) for row in stored.rows} == theirs
    assert {row["trial"]: (row["latency_ms"]["p50"], row["score"]) for row in found.data["front"]} == theirs


def test_no_address_is_stored(found, module_options):
    with sqlite3.connect(module_options["db"]) as connection:
        [(config,)] = connection.execute("SELECT config FROM ap_study").fetchall()
    assert "seed" in json.loads(config)["options"]
    assert "db" not in json.loads(config)["options"]


def test_the_same_command_returns_the_finished_result(found, module_options):
    again = search(SearchConfig.of(**module_options))
    assert again.data["elapsed_s"] == found.data["elapsed_s"]
    assert again.data["trials"] == found.data["trials"]


def test_more_trials_go_on_and_new_starts_another(found, module_options):
    more = search(SearchConfig.of(**{**module_options, "trials": 5}))
    assert more.data["study"] == found.data["study"]
    assert sum(more.data["trials"].values()) == 5
    other = search(SearchConfig.of(**{**module_options, "trials": 1, "new": True}))
    assert other.data["study"] != found.data["study"]


def test_a_study_name_of_another_search_is_refused(found, module_options):
    with pytest.raises(ConfigError, match="another search"):
        search(SearchConfig.of(**{**module_options, "budget": "50%", "study": found.data["study"]}))


def test_another_budget_is_answered_from_the_store(found, module_options):
    name, db = found.data["study"], module_options["db"]
    own, wide = queries.front(db, name), queries.front(db, name, "100%")
    assert own["front"] == queries.show(db, name)["front"]
    assert wide["best"]["score"] >= max(row["score"] for row in wide["front"])
    assert {row["trial"] for row in wide["front"]} >= {0} or wide["best"]["trial"] != 0
    with Store.open(db) as store:
        within = [point for point in store.points(name) if point.ratio_hi <= 1.0]
    beaten = {
        one.trial
        for one in within
        for other in within
        if (other.latency_ms, -other.score) != (one.latency_ms, -one.score)
        and other.latency_ms <= one.latency_ms
        and other.score >= one.score
    }
    expected = sorted((point.latency_ms, point.trial) for point in within if point.trial not in beaten)
    assert [(row["latency_ms"]["p50"], row["trial"]) for row in wide["front"]] == expected


def test_an_export_loads_in_a_pipeline(found, module_options, tmp_path, small_data):
    import transformers

    trial = queries.front(module_options["db"], found.data["study"], "100%")["front"][0]["trial"]
    written = queries.export(module_options["db"], found.data["study"], trial, tmp_path / "out")
    model = autoprune.load(written["directory"])
    assert type(model).__name__ == "BertForSequenceClassification"
    classify = transformers.pipeline("text-classification", model=model, tokenizer=written["directory"])
    assert classify("word1 word2 word3 " * 20)[0]["label"] in ("even", "odd")
    checked = queries.bench(tmp_path / "out")
    assert checked["measured"]["score"] == pytest.approx(written["figures"]["score"])
    assert checked["measured"]["n_examples"] == found.data["dense"]["n_examples"]
    dense, policy = checked["resources"]["dense"], checked["resources"]["policy"]
    assert policy["flops"] < dense["flops"]
    assert min(dense["memory_peak"], policy["memory_peak"]) > 50 * 2**20
    assert dense["energy"] == policy["energy"] == "not available here" or policy["energy_joules"] > 0


def test_an_impossible_budget_ends_with_the_probe(module_options):
    result = search(SearchConfig.of(**{**module_options, "budget": "0.001ms"}))
    assert (result.status, result.exit_code, result.best) == ("infeasible", 3, None)
    assert result.data["floor_ms"] > 0.001
    assert result.data["dense"]["score"] is None


def test_a_generous_budget_is_met_already(module_options):
    result = search(SearchConfig.of(**{**module_options, "budget": "60s"}))
    assert (result.status, result.exit_code) == ("already_met", 0)
    assert result.best.policy.is_dense


def test_batches_of_real_texts_are_searched(module_options, tmp_path):
    # An unknown word has no text of its own, so a row that holds one is shorter when its text is tokenised again.
    texts = tmp_path / "texts.csv"
    rows = [f"{' '.join(f'word{(i * 7 + k) % 200}' for k in range(40))} {'?? ' * (i % 3)}" for i in range(80)]
    texts.write_text("text,label\n" + "".join(f"?? {row},{('even', 'odd')[i % 2]}\n" for i, row in enumerate(rows)))
    more = {"dataset": str(texts), "batch_size": 4, "seq_len": 40, "trials": 2, "db": str(tmp_path / "studies.db")}
    result = search(SearchConfig.of(**{**module_options, **more}))
    assert result.data["workload"]["batch_size"] == 4
    assert result.data["trials"]["complete"] >= 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"dataset": "/nowhere/at/all.csv"},
        {"model": "/nowhere/at/all"},
        {"label_column": "colour"},
        {"space": "qiuck"},
        {"sampler": "oracle"},
        {"device": "abacus"},
        {"seq_len": 5000},
        {"workers": 2, "gpus_per_worker": 64},
    ],
)
def test_bad_input_writes_no_study(options, wrong):
    with pytest.raises(autoprune.errors.AutopruneError) as caught:
        search(SearchConfig.of(**{**options, **wrong}))
    assert caught.value.exit_code == 2
    assert caught.value.hint
    with Store.open(options["db"]) as store:
        assert store.list_studies() == []


def test_a_session_hands_the_share_of_a_gpu_on(monkeypatch):
    asked, said = [], []
    monkeypatch.setattr(session, "open_pool", lambda *args: asked.append(args) or SimpleNamespace(workers=3))
    config = SearchConfig.of(workers=3, gpus_per_worker=0.25)
    here = SimpleNamespace(config=config, task="task")
    session.Session.open_pool(here, "tables", SimpleNamespace(message=said.append))
    assert asked == [("task", "tables", 3, None, 0.25)]
    assert "on 3 Ray workers with 0.25 GPU each" in said[0]


def test_search_stays_a_function_after_importing_the_driver():
    import autoprune.engine.driver

    assert callable(autoprune.search)

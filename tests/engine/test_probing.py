"""``autoprune probe`` on a small model: what it measures, keeps and uses again."""

import json
from dataclasses import replace

import pytest
import torch

from autoprune.config import SearchConfig
from autoprune.engine import probing
from autoprune.engine.checking import retokenizer, tokenise_ms
from autoprune.engine.events import Observer
from autoprune.engine.places import LocalPlace
from autoprune.engine.probing import run_probe
from autoprune.engine.session import open_session
from autoprune.errors import ConfigError
from autoprune.latency.reprobe import Recheck
from autoprune.latency.threads import ThreadChoice
from autoprune.store.repository import Store


class Listener(Observer):
    def __init__(self):
        self.said = []

    def message(self, text):
        self.said.append(text)


def stored(report, db):
    with Store.open(db) as store:
        place = (report.session.hardware.digest(), report.session.task.model_digest, report.session.workload.digest())
        return store.cost_table_row(*place)


@pytest.fixture(scope="module")
def config(small_model, small_data, tmp_path_factory):
    db = tmp_path_factory.mktemp("db") / "studies.db"
    return SearchConfig.of(model=str(small_model), dataset=str(small_data), threads=1, seq_len=64, db=str(db))


@pytest.fixture(scope="module")
def first(config):
    return run_probe(config, batch_sizes=(2, 3))


@pytest.fixture
def cheap(first, monkeypatch):
    """Probes from here on cost nothing: they answer what the first found; returns how many were taken."""
    taken = []
    monkeypatch.setattr(probing, "_probe", lambda *_: taken.append(1) or first.result)
    monkeypatch.setattr(probing, "consume", lambda *_: first.consumption)
    return taken


def test_a_probe_counts_resources(first):
    found = json.loads(json.dumps(first.to_json()))["consumption"]
    assert found["memory_peak"] > found["model_bytes"] > 0
    assert found["flops"] > 0
    assert set(found["throughput"]) == {"2", "3"}
    assert min(found["throughput"].values()) > 0
    assert (found["energy"]["joules"] is None) == (found["energy"]["source"] == "not available here")
    lines = "\n".join(first.lines())
    for word in ("memory ", "GFLOP", "energy ", "in batches of 3"):
        assert word in lines
    assert lines.count("memory ") == 1


def test_a_stored_probe_is_used_again(first, config, cheap, monkeypatch):
    kept, seen, asked = stored(first, config.db), Listener(), []
    monkeypatch.setattr(
        probing, "_recheck", lambda timer, known: asked.append(known) or Recheck(known, "dense takes as long")
    )
    again = run_probe(config, seen)
    assert again.result.cost_table == first.result.cost_table == asked[0].cost_table
    assert not cheap
    assert stored(again, config.db) == kept
    assert any("is reused: dense takes as long" in text for text in seen.said)


def test_a_probe_that_no_longer_fits_is_taken_anew(first, config, cheap, monkeypatch):
    kept, seen = stored(first, config.db), Listener()
    monkeypatch.setattr(probing, "_recheck", lambda timer, known: Recheck(None, "dense doubled"))
    again = run_probe(config, seen)
    assert any("is not reused, probing anew: dense doubled" in text for text in seen.said)
    assert len(cheap) == 1
    assert stored(again, config.db).created_at > kept.created_at


def test_fresh_asks_no_stored_probe(first, config, cheap, monkeypatch):
    asked = []
    monkeypatch.setattr(probing, "_recheck", lambda *_: asked.append(1))
    run_probe(config, fresh=True)
    assert (len(cheap), asked) == (1, [])


def test_attention_and_runtime_define_the_workload(options):
    plain, eager = SearchConfig.of(**options), SearchConfig.of(**options, attention="eager", runtime="compile")
    changed = {key for key, value in eager.defining().items() if plain.defining()[key] != value}
    assert changed == {"attention", "runtime"}


def test_eager_attention_is_timed_when_asked(options):
    report = run_probe(SearchConfig.of(**options, seq_len=32, attention="eager"))
    assert report.session.workload.attention == "eager"
    assert report.session.task.model.config._attn_implementation == "eager"


def test_a_list_of_lengths_is_timed_one_input_each(options):
    session = open_session(SearchConfig.of(**options, seq_len=[16, 48, 96]), Observer())
    assert [timed["input_ids"].shape[1] for timed in session.inputs] == [16, 48, 96]
    assert (session.workload.lengths, session.workload.length_source) == ((16, 48, 96), "list")
    with pytest.raises(ConfigError, match="whole numbers from 1"):
        SearchConfig.of(**options, seq_len=[16, 0])
    assert SearchConfig.of(**options, seq_len=[16]).defining() == SearchConfig.of(**options, seq_len=16).defining()


def test_threads_are_tried_in_the_arithmetic_that_is_timed(options):
    tried, listener = [], Listener()

    class Place(LocalPlace):
        def threads(self, wanted, model, inputs):
            tried.append(model.dtype)
            return ThreadChoice(2, "quick", tried=True)

    wanted = {**options, "threads": "auto", "seq_len": 32}
    session = open_session(SearchConfig.of(**wanted, dtype="bfloat16"), listener, Place())
    assert tried == [torch.bfloat16]
    assert session.workload.threads == 2
    assert session.plain_model.dtype == torch.float32
    assert "threads    2 (quick)" in listener.said
    open_session(SearchConfig.of(**wanted, runtime="compile"), listener, Place())
    assert "threads    2 (quick; tried with the runtime eager)" in listener.said


def test_no_thread_is_tried_for_a_device(options, monkeypatch):
    from autoprune.engine import session

    class Place(LocalPlace):
        def threads(self, wanted, model, inputs):
            return pytest.fail("tried") if wanted == "auto" else super().threads(wanted, model, inputs)

    monkeypatch.setattr(session, "prepare_model", lambda model, workload: model)  # there is no GPU here
    listener, wanted = Listener(), {**options, "seq_len": 32, "device": "cuda"}
    opened = open_session(SearchConfig.of(**{**wanted, "threads": "auto"}), listener, Place())
    assert opened.workload.threads == 1
    assert "threads    1 (forwards run on cuda, and one thread feeds it)" in listener.said
    assert open_session(SearchConfig.of(**{**wanted, "threads": 1}), listener, Place()).workload.threads == 1


def test_rows_that_get_other_lengths_are_tokenised_again(options):
    session = open_session(SearchConfig.of(**options, batch_size=2, seq_len=8), Observer())
    special = session.task.tokenizer.sep_token_id
    for timed in session.inputs:
        timed["input_ids"][1, 3] = special  # its text has a word less
    assert retokenizer(session.timer())(0)["attention_mask"].sum(1).tolist() == [8, 7]
    assert tokenise_ms(session.timer()) > 0


def test_rows_that_cannot_be_padded_are_tokenised_all_the_same(options):
    session = open_session(SearchConfig.of(**options, batch_size=2, seq_len=8), Observer())
    timer = session.timer()
    timer.tokenizer.pad_token = None
    assert retokenizer(timer)(0) is timer.inputs[0]
    alone = replace(timer, inputs=[{name: rows[:1] for name, rows in timer.inputs[0].items()}])
    assert retokenizer(alone)(0)["input_ids"].shape == (1, 8)


def test_onnxruntime_without_its_extra_is_refused_before_anything_is_loaded(options, monkeypatch):
    import importlib.util

    from autoprune.engine import session
    from autoprune.errors import MissingExtraError

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(session, "load_task", lambda *_: pytest.fail("loaded"))
    with pytest.raises(MissingExtraError, match=r"autoprune\[onnx\]"):
        run_probe(SearchConfig.of(**options, seq_len=32, runtime="onnxruntime"))


@pytest.mark.parametrize("more", [{"dtype": "int8"}, {"dtype": "bfloat16"}, {"device": "cuda"}])
def test_onnxruntime_is_timed_in_float32_on_the_cpu_alone(options, more):
    with pytest.raises(ConfigError, match="float32 on the CPU"):
        SearchConfig.of(**options, runtime="onnxruntime", **more)

"""A whole search under ONNX Runtime: exported, timed, verified in a fresh process, benched, written out."""

import json

import pytest
import torch

from autoprune.config import SearchConfig
from autoprune.engine import queries
from autoprune.engine.driver import search
from autoprune.errors import InputError
from autoprune.store.repository import Store

pytest.importorskip("onnx", reason="the extra onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

pytestmark = pytest.mark.timeout(900)  # some twenty exports, of two seconds each on an idle machine
SPACE = "version: 1\nname: tiny\ninput: {scorers: [truncate]}\nstages: {scorers: [cls_attention], count: [0, 1]}\n"


@pytest.fixture(scope="module")
def options_here(small_model, small_data, tmp_path_factory):
    space = tmp_path_factory.mktemp("space") / "tiny.yaml"
    space.write_text(SPACE)
    return {
        "space": str(space),
        "model": str(small_model),
        "dataset": str(small_data),
        "budget": "90%",
        "trials": 2,
        "workers": 1,
        "threads": 1,
        "seq_len": 96,
        "runtime": "onnxruntime",
        "db": str(tmp_path_factory.mktemp("db") / "studies.db"),
    }


@pytest.fixture(scope="module")
def found(options_here):
    return search(SearchConfig.of(**options_here))


@pytest.fixture(scope="module")
def exported(found, options_here, tmp_path_factory):
    if found.best is None:
        pytest.skip(f"this machine answered {found.status}")
    folder = tmp_path_factory.mktemp("out") / "pruned"
    return folder, queries.export(options_here["db"], found.data["study"], None, folder, onnx=True)


def test_the_best_meets_the_budget_in_a_fresh_process(found):
    assert found.data["workload"]["runtime"] == "onnxruntime"
    assert {"onnx", "onnxruntime", "onnxscript"} <= set(found.data["versions"])
    if found.best is None:
        pytest.skip(f"this machine answered {found.status}")
    assert found.status == "met"
    assert found.best.verified
    assert found.best.ratio_ci95[1] <= 0.9


def test_another_runtime_is_another_workload(found, options_here):
    with Store.open(options_here["db"]) as store:
        record = store.find_study(found.data["study"])
    assert record.workload["runtime"] == "onnxruntime"
    plain = SearchConfig.of(**{**options_here, "runtime": "eager"}).defining()
    assert SearchConfig.of(**options_here).defining() != plain


def test_an_export_is_benched_under_its_own_runtime(exported):
    document = queries.bench(exported[0])
    assert document["workload"]["runtime"] == "onnxruntime"
    assert document["measured"]["ratio"] > 0
    assert document["measured"]["drop"] == pytest.approx(document["promised"]["drop"], abs=1e-9)


def test_the_graph_needs_neither_autoprune_nor_torch(exported):
    from transformers import AutoTokenizer

    import autoprune

    folder, document = exported
    assert document["onnx"]["file"] == "model.onnx"
    assert document["onnx"]["inputs"]["input_ids"] == [1, 96]
    encoded = AutoTokenizer.from_pretrained(folder)(
        " ".join(f"word{i}" for i in range(150)), truncation=True, max_length=96, return_tensors="np"
    )
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    logits = session.run(None, {each.name: encoded[each.name] for each in session.get_inputs()})[0]
    with torch.inference_mode():
        want = autoprune.load(folder)(**encoded.convert_to_tensors("pt")).logits
    torch.testing.assert_close(torch.from_numpy(logits), want, atol=1e-3, rtol=1e-3)
    assert json.loads((folder / "autoprune_policy.json").read_text())["workload"]["runtime"] == "onnxruntime"


def test_exporting_again_without_the_graph_replaces_the_folder(exported, found, options_here):
    folder, _ = exported
    kept = {path.name for path in folder.iterdir()}
    queries.export(options_here["db"], found.data["study"], None, folder)
    assert {path.name for path in folder.iterdir()} == kept - {"model.onnx"}


def test_a_graph_has_one_length(found, options_here, tmp_path, monkeypatch):
    from autoprune.engine import exporting
    from autoprune.latency.workload import Workload

    monkeypatch.setattr(exporting, "stored_workload", lambda _: Workload((64, 96)))
    with pytest.raises(InputError, match="one fixed length"):
        queries.export(options_here["db"], found.data["study"], 0, tmp_path / "out", onnx=True)

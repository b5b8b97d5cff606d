"""Everything a user can get wrong: one sentence that says what, a hint that says what to do, exit 2."""

import json
import re
import sys
from pathlib import Path

import pytest

from autoprune.errors import ConfigError, DataError, InputError, MissingExtraError, ModelError
from autoprune.tasks.base import TaskSpec, load_task


def fails(spec: TaskSpec, kind: type[InputError], message: str) -> InputError:
    with pytest.raises(kind, match=message) as caught:
        load_task(spec)
    assert caught.value.exit_code == 2
    assert caught.value.hint
    assert "\n" not in caught.value.message
    return caught.value


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.csv", "", "is empty"),
        ("header.csv", "text,label\n", "is empty"),
        ("empty.jsonl", "", "is empty"),
        ("blank.jsonl", '{"text": " ", "label": "positive"}\n', "too few examples"),
        ("ragged.csv", "text,label\ngood, bad,positive\n", "Line 2 .* has 3 fields, its header 2"),
        ("twice.csv", "text,text\na,b\n", "names a column twice"),
        ("quote.csv", 'text,label\n"good,positive\n', "cannot be read"),
        ("binary.csv", b"\xff\xfe\x00\x9c", "cannot be read"),
        ("array.jsonl", "[1, 2]\n", "Line 1 .* is not a JSON object"),
        ("broken.jsonl", '{"text": "a", "label": 0}\n{"text": ', "Line 2 .* is not a JSON object"),
        ("broken.parquet", b"PAR1 but not really", "cannot be read"),
        ("reviews.xlsx", b"PK", "unsupported extension .*xlsx"),
        ("reviews", b"text", "unsupported extension .*none"),
    ],
)
def test_files_that_cannot_be_used(tiny_classifier, tmp_path: Path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())

    fails(TaskSpec(model=tiny_classifier, dataset=str(path)), DataError, message)


@pytest.mark.parametrize("name", ["missing.csv", "missing.jsonl", "./folder", "/no/such/place"])
def test_a_data_file_that_is_not_there(tiny_classifier, name):
    fails(TaskSpec(model=tiny_classifier, dataset=name), DataError, f"no data file '{re.escape(name)}'")


def test_a_hub_name_without_the_datasets_library_names_what_to_install(tiny_classifier, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)  # makes the import fail
    error = fails(TaskSpec(model=tiny_classifier, dataset="stanfordnlp/imdb"), MissingExtraError, "datasets library")

    assert "pip install datasets" in error.hint


def test_a_hub_data_set_that_cannot_be_reached(tiny_classifier, monkeypatch):
    class Offline:
        @staticmethod
        def load_dataset(name, configuration):
            raise ConnectionError(f"Couldn't reach {name!r} on the Hub\nmore\nlines")

    monkeypatch.setitem(sys.modules, "datasets", Offline)

    fails(TaskSpec(model=tiny_classifier, dataset="org/gone"), DataError, "cannot be loaded: Couldn't reach 'org/gone'")


def test_a_folder_that_is_no_data_set(tiny_classifier, tmp_path):
    fails(TaskSpec(model=tiny_classifier, dataset=str(tmp_path)), DataError, "not a data set written by")


def test_a_saved_folder_whose_data_file_is_gone(tiny_classifier, tmp_path):
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-0.arrow"}]}))

    fails(TaskSpec(model=tiny_classifier, dataset=str(tmp_path)), DataError, "cannot be read")


@pytest.mark.parametrize("option", [{"text_columns": ("body",)}, {"label_column": "body"}])
def test_a_column_that_is_not_there_lists_those_that_are(tiny_classifier, jsonl, make_rows, option):
    spec = TaskSpec(model=tiny_classifier, dataset=jsonl(make_rows(30)), **option)

    fails(spec, DataError, "no column 'body'; it has: text, label")


def test_a_column_of_numbers_is_no_text(tiny_classifier, jsonl, make_rows, tmp_path):
    rows = [{**row, "stars": i} for i, row in enumerate(make_rows(30))]
    table = tmp_path / "stars.csv"
    table.write_text("text,stars,label\n" + "".join(f"{r['text']},{r['stars']},{r['label']}\n" for r in rows))

    for dataset in (jsonl(rows), str(table)):
        fails(TaskSpec(model=tiny_classifier, dataset=dataset, text_columns=("stars",)), DataError, "not hold text")


def test_texts_that_cannot_be_guessed(tiny_classifier, jsonl, make_rows):
    rows = [{"title": "a film", "body": row["text"], "label": row["label"]} for row in make_rows(30)]

    fails(TaskSpec(model=tiny_classifier, dataset=jsonl(rows)), DataError, "cannot be guessed")


def test_one_class_only(tiny_classifier, jsonl, make_rows):
    path = jsonl(make_rows(30, labels=("positive",)))

    fails(TaskSpec(model=tiny_classifier, dataset=path), DataError, "the same label")


@pytest.mark.parametrize("labels", [("positive", "neutral"), (0, 2), ("positive", 0), (0.5, 1.0)])
def test_labels_that_the_model_does_not_know(tiny_classifier, jsonl, make_rows, labels):
    path = jsonl(make_rows(30, labels=labels))

    fails(TaskSpec(model=tiny_classifier, dataset=path), DataError, "its classes are negative, positive")


def test_a_metric_that_does_not_exist(tiny_classifier, jsonl, make_rows):
    fails(TaskSpec(model=tiny_classifier, dataset=jsonl(make_rows(30)), metric="bleu"), ConfigError, "no metric")


def test_a_task_kind_that_does_not_exist(tiny_classifier, jsonl, make_rows):
    spec = TaskSpec(model=tiny_classifier, dataset=jsonl(make_rows(30)), kind="text-clasification")

    assert "text-classification" in fails(spec, ConfigError, "no task kind").hint


@pytest.mark.parametrize("name", ["./no-model", "/no/such/model", "a/b/c", "~/no-such-model"])
def test_a_model_folder_that_is_not_there(jsonl, make_rows, name):
    fails(TaskSpec(model=name, dataset=jsonl(make_rows(30))), ModelError, "no model folder")


def test_a_hub_model_without_a_network(jsonl, make_rows):
    spec = TaskSpec(model="autoprune-tests/not-there", dataset=jsonl(make_rows(30)))

    assert "network" in fails(spec, ModelError, "cannot be loaded").hint


def test_a_malformed_hub_id(jsonl, make_rows):
    fails(TaskSpec(model="not a hub id", dataset=jsonl(make_rows(30))), ModelError, "cannot be loaded")


def test_a_model_without_a_head_for_classes(make_classifier, jsonl, make_rows):
    folder = make_classifier({0: "a", 1: "b"})
    edit_config(folder, architectures=["BertForMaskedLM"])

    fails(TaskSpec(model=str(folder), dataset=jsonl(make_rows(30))), ModelError, "no text classifier.*BertForMaskedLM")


def test_a_checkpoint_whose_head_was_never_trained(make_classifier, jsonl, make_rows):
    from safetensors.torch import load_file, save_file

    folder = make_classifier({0: "negative", 1: "positive"})
    weights = {k: v for k, v in load_file(folder / "model.safetensors").items() if not k.startswith("classifier")}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    fails(TaskSpec(model=str(folder), dataset=jsonl(make_rows(30))), ModelError, "no weights for classifier")


@pytest.mark.parametrize(
    ("names", "config"),
    [({0: "score"}, {}), ({0: "a", 1: "b"}, {"problem_type": "multi_label_classification"})],
)
def test_a_model_that_predicts_no_single_class(make_classifier, jsonl, make_rows, names, config):
    folder = make_classifier(names, **config)

    fails(TaskSpec(model=str(folder), dataset=jsonl(make_rows(30))), ModelError, "not one of two or more classes")


def test_weights_that_are_damaged_or_not_safetensors(make_classifier, jsonl, make_rows):
    folder = make_classifier({0: "negative", 1: "positive"})
    spec = TaskSpec(model=str(folder), dataset=jsonl(make_rows(30)))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    fails(spec, ModelError, "cannot be loaded")

    weights.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")  # a pickle, which is never opened
    fails(spec, ModelError, "cannot be loaded.*safetensors")


def test_a_configuration_that_is_no_json(make_classifier, jsonl, make_rows):
    folder = make_classifier({0: "a", 1: "b"})
    (folder / "config.json").write_text("{")

    fails(TaskSpec(model=str(folder), dataset=jsonl(make_rows(30))), ModelError, "cannot be loaded")


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

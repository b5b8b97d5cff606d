import json
from pathlib import Path

import numpy as np
import pytest

from autoprune.errors import DataError, InputError
from autoprune.tasks.base import TaskSpec, load_task
from autoprune.tasks.metrics import Metric


def test_a_data_file_becomes_a_task(tiny_classifier, jsonl, make_rows):
    task = load_task(TaskSpec(model=tiny_classifier, dataset=jsonl(make_rows(100))))

    assert task.name == "tiny-bert-reviews"
    assert len(task) == 80
    assert len(task.calibration) == 20
    assert not set(task.texts) & set(task.calibration)
    assert task.label_names == ["negative", "positive"]
    truth = {row["text"]: row["label"] for row in make_rows(100)}
    assert [task.label_names[i] for i in task.labels] == [truth[text] for text in task.texts]
    assert task.metric.name == "accuracy"
    assert task.max_length == 48
    assert not task.model.training


def test_the_order_and_the_digests_are_the_same_every_time_and_tell_changes(tiny_classifier, jsonl, make_rows):
    rows = make_rows(60)
    spec = TaskSpec(model=tiny_classifier, dataset=jsonl(rows))
    first, second = load_task(spec), load_task(spec)
    changed = load_task(TaskSpec(model=tiny_classifier, dataset=jsonl(rows[:-1] + make_rows(61)[-1:], "b.jsonl")))

    assert list(first.texts) == list(second.texts)
    assert (first.fingerprint, first.model_digest) == (second.fingerprint, second.model_digest)
    assert changed.fingerprint != first.fingerprint
    assert changed.model_digest == first.model_digest


def test_the_model_digest_follows_the_weights(tiny_classifier, jsonl, make_rows):
    from autoprune.tasks.digests import model_digest

    task = load_task(TaskSpec(model=tiny_classifier, dataset=jsonl(make_rows(40))))
    task.model.classifier.bias.data[0] += 1e-3

    assert model_digest(task.model) != task.model_digest


def test_max_examples_takes_a_prefix(tiny_classifier, jsonl, make_rows):
    path = jsonl(make_rows(100))
    everything = load_task(TaskSpec(model=tiny_classifier, dataset=path))
    some = load_task(TaskSpec(model=tiny_classifier, dataset=path, max_examples=10))

    assert list(some.texts) == list(everything.texts[:10])
    assert some.fingerprint != everything.fingerprint


def test_without_labels_the_score_is_agreement_and_says_so(tiny_classifier, jsonl, make_rows):
    rows = [{"text": row["text"]} for row in make_rows(40)]
    task = load_task(TaskSpec(model=tiny_classifier, dataset=jsonl(rows), metric="f1"))

    assert task.labels is None
    assert task.metric == Metric("agreement")
    assert any("agreement" in note for note in task.notes)


def test_pairs_of_texts_are_encoded_together(tiny_classifier, jsonl, make_rows):
    rows = [{"premise": r["text"], "hypothesis": "good film", "label": r["label"]} for r in make_rows(40)]
    task = load_task(TaskSpec(model=tiny_classifier, dataset=jsonl(rows)))

    assert task.texts[0][1] == "good film"
    short = min(task.encoded, key=lambda row: len(row["input_ids"]))
    assert short["input_ids"].count(3) == 2  # two separators


def test_batches_cover_the_range_once_sorted_by_length_and_padded(tiny_classifier, jsonl, make_rows):
    task = load_task(TaskSpec(model=tiny_classifier, dataset=jsonl(make_rows(100))))
    batches = list(task.batches(10, 50, 16))

    seen = np.concatenate([indices for indices, _ in batches])
    assert sorted(seen) == list(range(10, 50))
    assert [len(indices) for indices, _ in batches] == [16, 16, 8]
    widths = [inputs["input_ids"].shape[1] for _, inputs in batches]
    assert widths == sorted(widths)
    for indices, inputs in batches:
        assert inputs["input_ids"].shape[1] == task.lengths[indices].max()
        assert inputs["attention_mask"].sum(1).tolist() == task.lengths[indices].tolist()
        assert (inputs["input_ids"][inputs["attention_mask"] == 0] == 0).all()


def test_batches_stop_at_the_end_of_the_data(tiny_classifier, jsonl, make_rows):
    task = load_task(TaskSpec(model=tiny_classifier, dataset=jsonl(make_rows(40))))

    assert sum(len(indices) for indices, _ in task.batches(30, 500, 8)) == len(task) - 30
    assert list(task.batches(500, 600, 8)) == []


def test_calibration_batches_are_cut(tiny_classifier, jsonl, make_rows):
    task = load_task(TaskSpec(model=tiny_classifier, dataset=jsonl(make_rows(100))))
    batches = list(task.calibration_batches(12, 5, 8))

    assert [len(batch["input_ids"]) for batch in batches] == [5, 5, 2]
    assert max(batch["input_ids"].shape[1] for batch in batches) == 8


def test_timing_inputs_have_the_wanted_length_without_padding(tiny_classifier, jsonl, make_rows):
    task = load_task(TaskSpec(model=tiny_classifier, dataset=jsonl(make_rows(100))))
    inputs = task.inputs([30, 30, 12], batch_size=2)

    assert [tuple(batch["input_ids"].shape) for batch in inputs] == [(2, 30), (2, 30), (2, 12)]
    assert all(batch["attention_mask"].all() for batch in inputs)
    assert all((batch["input_ids"][:, -1] == 3).all() for batch in inputs)  # the separator is not cut off
    rows = [tuple(row.tolist()) for batch in inputs[:2] for row in batch["input_ids"]]
    assert len(set(rows)) == 4


def test_timing_inputs_repeat_texts_when_few_are_long(tiny_classifier, jsonl, make_rows):
    short = [{"text": f"good w{i} {i}", "label": ("negative", "positive")[i % 2]} for i in range(40)]
    long = {"text": "film " * 20, "label": "positive"}
    # Calibration takes a fifth by hash; two long texts leave at least one to score in this data set.
    task = load_task(TaskSpec(model=tiny_classifier, dataset=jsonl([*short, long, {**long, "text": "bad " * 20}])))

    assert len(task.inputs([20] * 5)) == 5


def test_calibration_inputs_are_as_long_as_wanted_or_as_can_be(tiny_classifier, jsonl, make_rows):
    task = load_task(TaskSpec(model=tiny_classifier, dataset=jsonl(make_rows(100))))
    inputs = task.calibration_inputs([12, 12, 48], 2, 1000)
    longest = int(max(batch["input_ids"].shape[1] for batch in task.calibration_batches(1000, 8)))

    assert [tuple(batch["input_ids"].shape) for batch in inputs] == [(2, 12), (2, 12), (2, longest)]
    text = task.tokenizer(task.calibration[-1], truncation=True, max_length=12)["input_ids"]
    assert task.calibration_inputs([len(text)], 1, 1)[0]["input_ids"].tolist() == [text]
    task.calibration = []
    with pytest.raises(DataError, match="No text is left to calibrate on"):
        task.calibration_inputs([12], 1, 10)


def test_timing_inputs_say_when_no_text_is_long_enough(tiny_classifier, jsonl, make_rows):
    rows = [{"text": f"good w{i} {i}", "label": ("negative", "positive")[i % 2]} for i in range(40)]
    task = load_task(TaskSpec(model=tiny_classifier, dataset=jsonl(rows)))

    with pytest.raises(DataError, match="the longest has 5"):
        task.inputs([6])
    with pytest.raises(DataError, match="at most 48"):
        task.inputs([49])


def test_a_saved_datasets_folder_is_scored_on_test_and_calibrated_on_train(tiny_classifier, tmp_path, make_rows):
    rows = make_rows(60, labels=(0, 1))
    folder = save_dataset(tmp_path / "imdb", {"train": rows[:30], "validation": rows[30:40], "test": rows[40:]})
    task = load_task(TaskSpec(model=tiny_classifier, dataset=str(folder)))
    validation = load_task(TaskSpec(model=tiny_classifier, dataset=str(folder), split="validation"))

    assert set(task.texts) == {row["text"] for row in rows[40:]}
    assert set(task.calibration) == {row["text"] for row in rows[:30]}
    assert set(validation.texts) == {row["text"] for row in rows[30:40]}
    assert task.name == "tiny-bert-imdb"


def test_hidden_test_labels_fall_back_to_validation(tiny_classifier, tmp_path, make_rows):
    hidden = [{**row, "label": -1} for row in make_rows(10)]
    folder = save_dataset(tmp_path / "glue", {"validation": make_rows(30, labels=(0, 1)), "test": hidden})
    task = load_task(TaskSpec(model=tiny_classifier, dataset=str(folder)))

    assert task.labels is not None
    assert len(task) == 24


def test_class_names_of_the_data_are_matched_by_name_not_by_number(tiny_classifier, tmp_path, make_rows):
    rows = make_rows(30, labels=(0, 1))
    folder = save_dataset(tmp_path / "swapped", {"test": rows}, names=["positive", "negative"])
    task = load_task(TaskSpec(model=tiny_classifier, dataset=str(folder)))

    truth = {row["text"]: 1 - row["label"] for row in rows}
    assert task.labels.tolist() == [truth[text] for text in task.texts]


def test_a_split_that_is_not_there_is_named_with_those_that_are(tiny_classifier, tmp_path, make_rows, jsonl):
    folder = save_dataset(tmp_path / "imdb", {"test": make_rows(30)})

    with pytest.raises(DataError, match="no split 'dev'; it has: test"):
        load_task(TaskSpec(model=tiny_classifier, dataset=str(folder), split="dev"))
    with pytest.raises(DataError, match="a file has no splits"):
        load_task(TaskSpec(model=tiny_classifier, dataset=jsonl(make_rows(30)), split="dev"))


@pytest.mark.parametrize("field", ["model", "dataset"])
def test_model_and_data_set_come_together(field):
    with pytest.raises(InputError, match="without a"):
        load_task(TaskSpec(**{field: "x"}))


def save_dataset(folder: Path, splits: dict, names: list[str] | None = None) -> Path:
    """Write what ``DatasetDict.save_to_disk`` writes, as far as it matters."""
    import pyarrow as pa

    for split, rows in splits.items():
        target = folder / split
        target.mkdir(parents=True)
        table = pa.Table.from_pylist(rows)
        if names:
            features = {"label": {"names": names, "_type": "ClassLabel"}}
            table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        half = len(rows) // 2
        for i, part in enumerate((table.slice(0, half), table.slice(half))):
            with pa.OSFile(str(target / f"data-{i}.arrow"), "wb") as sink, pa.ipc.new_stream(sink, part.schema) as out:
                out.write_table(part)
        state = {"_data_files": [{"filename": f"data-{i}.arrow"} for i in (0, 1)], "_split": split}
        (target / "state.json").write_text(json.dumps(state))
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))
    return folder

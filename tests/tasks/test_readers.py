import json

import pytest

from autoprune.tasks.readers import ONLY, Table, open_source

ROWS = [
    {"text": 'He said "no", twice,\non two lines', "label": "a"},
    {"text": "naïve 漢字", "label": "b"},
    {"text": "NA", "label": "b"},
]


def write_csv(path):
    import csv

    with path.open("w", newline="", encoding="utf-8-sig") as file:  # with the mark that Excel writes
        out = csv.DictWriter(file, ["text", "label"])
        out.writeheader()
        out.writerows(ROWS)


def write_jsonl(path):
    path.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n", encoding="utf-8")


def write_parquet(path):
    import pyarrow as pa
    import pyarrow.parquet

    pyarrow.parquet.write_table(pa.Table.from_pylist(ROWS), path)


@pytest.mark.parametrize(
    ("name", "write"), [("a.csv", write_csv), ("a.jsonl", write_jsonl), ("a.PARQUET", write_parquet)]
)
def test_every_format_gives_the_same_columns(tmp_path, name, write):
    write(tmp_path / name)
    source = open_source(str(tmp_path / name))

    assert source.name == "a"
    assert list(source.splits) == [ONLY]
    assert source.splits[ONLY]() == Table({key: [row[key] for row in ROWS] for key in ("text", "label")})


def test_texts_longer_than_the_limit_of_the_csv_module(tmp_path):
    path = tmp_path / "long.csv"
    path.write_text(f"text\n{'x' * 300_000}\n")

    assert len(open_source(str(path)).splits[ONLY]().columns["text"][0]) == 300_000


def test_jsonl_rows_may_lack_columns(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n{"text": "b", "label": 1}\n')

    assert open_source(str(path)).splits[ONLY]() == Table({"text": ["a", "b"], "label": [None, 1]})


def test_class_names_stand_in_the_schema_of_parquet_files(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet

    features = {"label": {"names": ["neg", "pos"], "_type": "ClassLabel"}, "text": {"dtype": "string"}}
    table = pa.table({"text": ["a"], "label": [1]})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")

    assert open_source(str(tmp_path / "a.parquet")).splits[ONLY]().class_names == {"label": ["neg", "pos"]}


def test_hub_data_sets_come_through_the_datasets_library(monkeypatch):
    import sys
    from types import SimpleNamespace

    class Split(dict):
        def __init__(self, **columns):
            super().__init__(columns)
            self.column_names = list(columns)
            self.features = {"label": SimpleNamespace(names=["neg", "pos"]), "text": SimpleNamespace()}

    asked = []
    library = SimpleNamespace(
        load_dataset=lambda *args: asked.append(args) or {"test": Split(text=["a", "b"], label=[0, 1])}
    )
    monkeypatch.setitem(sys.modules, "datasets", library)
    source = open_source("nyu-mll/glue:sst2")

    assert asked == [("nyu-mll/glue", "sst2")]
    assert source.name == "glue"
    assert source.splits["test"]() == Table({"text": ["a", "b"], "label": [0, 1]}, {"label": ["neg", "pos"]})

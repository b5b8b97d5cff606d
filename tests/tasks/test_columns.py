import pytest

from autoprune.errors import DataError
from autoprune.tasks.columns import choose_label_column, choose_text_columns, has_labels, rows, to_class_ids
from autoprune.tasks.readers import Table

NAMES = {0: "NEGATIVE", 1: "POSITIVE"}
GENERIC = {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}


@pytest.mark.parametrize(
    ("raw", "class_names", "id2label", "expected"),
    [
        ([0, 1], None, NAMES, [0, 1]),
        (["0", "1"], None, NAMES, [0, 1]),
        ([1.0, 0.0], None, NAMES, [1, 0]),
        (["1.0", "0.0"], None, NAMES, [1, 0]),
        ([True, False], None, NAMES, [1, 0]),
        (["positive", " Negative"], None, NAMES, [1, 0]),
        (["LABEL_2", "label_0"], None, GENERIC, [2, 0]),
        (["LABEL_1", "LABEL_0"], None, NAMES, [1, 0]),
        ([0, 1], ["positive", "negative"], NAMES, [1, 0]),  # the data's own order of the same names
        ([0, 1], ["neg", "pos"], NAMES, [0, 1]),  # other names: the numbers count
        (["1 star", "2 stars"], None, {0: "1 star", 1: "2 stars"}, [0, 1]),
        ([1, 2], None, {0: "1", 1: "2"}, [0, 1]),  # classes that are called by numbers
    ],
)
def test_labels_become_class_numbers(raw, class_names, id2label, expected):
    assert to_class_ids(raw, class_names, id2label).tolist() == expected


@pytest.mark.parametrize("raw", [["neutral"], [3], [-2], ["positive", "0"], [0.5], [["a"]]])
def test_unknown_labels_are_named(raw):
    with pytest.raises(DataError, match="does not know the labels") as caught:
        to_class_ids(raw, None, NAMES)

    assert str(raw[0]) in caught.value.message


def test_many_unknown_labels_are_shortened():
    with pytest.raises(DataError, match="and 92 more"):
        to_class_ids([f"class {i}" for i in range(100)], None, NAMES)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["id", "text", "title"], ("text",)),
        (["Review", "title"], ("Review",)),
        (["hypothesis", "premise", "text"], ("premise", "hypothesis")),
        (["sentence1", "sentence2"], ("sentence1", "sentence2")),
        (["sentence"], ("sentence",)),
        (["comment", "number"], ("comment",)),  # the only one that holds text
    ],
)
def test_usual_text_columns_are_guessed(columns, expected):
    values = {"number": ["1", "2"], "id": [1, 2]}
    table = Table({name: values.get(name, ["some", "words"]) for name in columns})

    assert choose_text_columns(table, (), "label") == expected


def test_the_label_column_is_never_the_text():
    table = Table({"label": ["yes", "no"], "comment": ["a b", "c d"]})

    assert choose_text_columns(table, (), choose_label_column(table, None)) == ("comment",)


@pytest.mark.parametrize(("columns", "expected"), [(["text", "Label"], "Label"), (["text", "stars"], None)])
def test_usual_label_columns_are_guessed(columns, expected):
    assert choose_label_column(Table({name: [] for name in columns}), None) == expected


def test_rows_without_text_or_label_are_left_out_and_counted():
    table = Table({"text": ["a", None, " ", "d", "e"], "label": [0, 1, 1, None, -1]})

    assert rows(table, ("text",), "label") == (["a"], [0], 4)
    assert rows(table, ("text",), None) == (["a", "d", "e"], None, 2)


@pytest.mark.parametrize(("labels", "expected"), [([-1, -1], False), ([None, ""], False), ([-1, 1], True), ([], False)])
def test_hidden_labels_are_no_labels(labels, expected):
    assert has_labels(Table({"label": labels}), "label") is expected

"""Which columns hold texts and labels, and labels as the model's class numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from autoprune.errors import DataError
from autoprune.tasks.ordering import Text
from autoprune.tasks.readers import Table

if TYPE_CHECKING:
    import numpy as np

_PAIRS = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("text_a", "text_b"),
)
_SINGLES = ("text", "sentence", "review", "content", "document")
_LABELS = ("label", "labels", "class", "target")
_GENERIC = re.compile(r"(?:label_)?(-?\d+)(?:\.0+)?", re.IGNORECASE)


def choose_text_columns(table: Table, wanted: Sequence[str], label: str | None) -> tuple[str, ...]:
    """Return the one or two text columns.

    Args:
        table: The data.
        wanted: What the user asked for; empty guesses usual names, then takes the only text column.
        label: The label column, which is never a text.

    Raises:
        DataError: A column is not there, holds no text, or none can be guessed.
    """
    if wanted:
        for name in wanted:
            _require(table, name, "text")
        chosen = tuple(wanted)
    else:
        chosen = _guess_texts(table, label)
    for name in chosen:
        if not _is_text(table.columns[name]):
            raise DataError(
                f"The column {name!r} does not hold text.", f"Choose with --text-column among: {_listed(table)}."
            )
    return chosen


def choose_label_column(table: Table, wanted: str | None) -> str | None:
    """Return the label column, or None when the data has none.

    Raises:
        DataError: The wanted column is not there.
    """
    if wanted is not None:
        return _require(table, wanted, "label")
    by_lower = {name.lower(): name for name in table.columns}
    return next((by_lower[name] for name in _LABELS if name in by_lower), None)


def rows(table: Table, text_columns: Sequence[str], label: str | None) -> tuple[list[Text], list[Any] | None, int]:
    """Return texts, raw labels (None without a label column), and how many incomplete rows were left out."""
    columns = [table.columns[name] for name in text_columns]
    labels = None if label is None else table.columns[label]
    keep = [
        i
        for i in range(len(table))
        if all(isinstance(column[i], str) and column[i].strip() for column in columns)
        and (labels is None or not _missing(labels[i]))
    ]
    texts: list[Text] = [columns[0][i] if len(columns) == 1 else (columns[0][i], columns[1][i]) for i in keep]
    return texts, None if labels is None else [labels[i] for i in keep], len(table) - len(keep)


def has_labels(table: Table, label: str | None) -> bool:
    """Whether any row has a label; hidden test labels are stored as -1 by custom."""
    return label is not None and not all(_missing(value) for value in table.columns[label])


def to_class_ids(raw: Sequence[Any], class_names: Sequence[str] | None, id2label: Mapping[int, str]) -> np.ndarray:
    """Translate labels to the model's class numbers.

    Names are compared without case. Numbers (also as text, or ``LABEL_3``) are class numbers, unless the
    data names its classes and these are the model's, possibly in another order.

    Args:
        raw: Labels as they stand in the data.
        class_names: The data's own class names behind integers, where known.
        id2label: The model's classes.

    Returns:
        (n,) int64.

    Raises:
        DataError: A label is unknown to the model.
    """
    import numpy as np

    names = {name.casefold(): i for i, name in id2label.items()}
    numbers = [_number(value) for value in raw]
    if class_names and all(n is not None and 0 <= n < len(class_names) for n in numbers):
        spoken = [class_names[n] for n in numbers if n is not None]
        if all(name.casefold() in names for name in class_names):
            return np.array([names[name.casefold()] for name in spoken], dtype=np.int64)
    words = [str(value).strip().casefold() for value in raw]
    if all(word in names for word in words):
        return np.array([names[word] for word in words], dtype=np.int64)
    if all(n in id2label for n in numbers):
        return np.array(numbers, dtype=np.int64)
    known = [word in names or n in id2label for word, n in zip(words, numbers, strict=True)]
    mixed = all(known)  # names and numbers
    unknown = sorted({str(value) for value, is_known in zip(raw, known, strict=True) if mixed or not is_known})
    raise DataError(
        f"The model does not know the labels {_few(unknown)}; its classes are {_few(list(id2label.values()))}.",
        "Write the labels as the model's class names or as its class numbers from 0.",
    )


def _guess_texts(table: Table, label: str | None) -> tuple[str, ...]:
    by_lower = {name.lower(): name for name in table.columns if name != label}
    for pair in _PAIRS:
        if all(name in by_lower for name in pair):
            return tuple(by_lower[name] for name in pair)
    for name in _SINGLES:
        if name in by_lower:
            return (by_lower[name],)
    texts = [name for name in by_lower.values() if _is_text(table.columns[name])]
    if len(texts) == 1:
        return (texts[0],)
    raise DataError(
        f"Which column holds the text cannot be guessed; the data set has: {_listed(table)}.",
        "Name it with --text-column.",
    )


def _require(table: Table, name: str, what: str) -> str:
    if name not in table.columns:
        raise DataError(
            f"The data set has no column {name!r}; it has: {_listed(table)}.", f"Name one of them with --{what}-column."
        )
    return name


def _is_text(values: Sequence[Any]) -> bool:
    filled = [value for value in values if not _empty(value)]
    # All columns of a CSV file are strings, so a column of numbers must be recognised by its values.
    return not filled or (all(isinstance(v, str) for v in filled) and not all(_is_number(v) for v in filled))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip()) or value != value  # NaN


def _missing(value: Any) -> bool:
    return _empty(value) or _number(value) == -1


def _number(value: Any) -> int | None:
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    match = _GENERIC.fullmatch(value.strip()) if isinstance(value, str) else None
    return int(match[1]) if match else None


def _listed(table: Table) -> str:
    return ", ".join(table.columns) or "no columns"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")

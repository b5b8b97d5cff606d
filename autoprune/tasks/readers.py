"""Reads a data set into plain columns: CSV, JSONL, Parquet, a saved ``datasets`` folder, or a hub name."""

from __future__ import annotations

import csv
import importlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    import pyarrow as pa

ONLY = ""  # name of the only split of a file
_FILE_KINDS = ".csv, .jsonl or .parquet"
_FILE_LIKE = frozenset({".csv", ".tsv", ".txt", ".json", ".jsonl", ".parquet", ".arrow", ".xlsx", ".zip", ".gz"})


@dataclass(frozen=True)
class Table:
    """Columns of equal length.

    Attributes:
        columns: Values by column name.
        class_names: Names of the classes behind integer columns, where the file tells them.
    """

    columns: Mapping[str, list[Any]]
    class_names: Mapping[str, list[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of rows."""
        return max((len(values) for values in self.columns.values()), default=0)


@dataclass(frozen=True)
class Source:
    """A data set whose splits are read when they are needed.

    Attributes:
        name: For people and file names.
        splits: Reader of each split; a file has the one split ``""``.
    """

    name: str
    splits: Mapping[str, Callable[[], Table]]


def open_source(dataset: str) -> Source:
    """Find out what ``dataset`` is.

    Args:
        dataset: File, folder written by ``save_to_disk``, or hub name (``name`` or ``name:configuration``).

    Raises:
        DataError: It does not exist, or is of no known kind.
        MissingExtraError: A hub name, and the ``datasets`` library is not installed.
    """
    path = Path(dataset).expanduser()
    if path.is_dir():
        return _folder(path)
    if path.exists():
        return _file(path)
    if path.suffix.lower() in _FILE_LIKE or path.is_absolute() or dataset.startswith((".", "~")) or "\\" in dataset:
        raise DataError(f"There is no data file {dataset!r}.", "Check the path.")
    return _hub(dataset)


def _file(path: Path) -> Source:
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"The data file {str(path)!r} has an unsupported extension ({path.suffix or 'none'}).",
            f"Convert it to {_FILE_KINDS}.",
        )
    return Source(path.stem, {ONLY: partial(_guarded, reader, path)})


def _guarded(reader: Callable[[Path], Table], path: Path) -> Table:
    # pyarrow's own errors derive from ValueError, KeyError or OSError; so do those of csv and json below.
    try:
        return reader(path)
    except DataError:
        raise
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        reason = str(error).strip().splitlines()
        raise DataError(
            f"The data file {str(path)!r} cannot be read: {reason[0] if reason else type(error).__name__}.",
            "Check that it is complete, and that its content is what its extension says (text in UTF-8).",
        ) from None


def _read_csv(path: Path) -> Table:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # the default of 128 KiB is less than a long document
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        header = next(reader, [])
        columns: dict[str, list[Any]] = {name: [] for name in header}
        if len(columns) < len(header):
            raise DataError(f"The header of {str(path)!r} names a column twice.", "Rename one of them.")
        for row in reader:
            if row and len(row) != len(header):
                raise DataError(
                    f"Line {reader.line_num} of {str(path)!r} has {len(row)} fields, its header {len(header)}.",
                    "Put quotes around texts that contain commas.",
                )
            for name, value in zip(header, row, strict=False):
                columns[name].append(value)
    return Table(columns)


def _read_jsonl(path: Path) -> Table:
    rows: list[dict[str, Any]] = []
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if not isinstance(row, dict):
                raise DataError(
                    f"Line {number} of {str(path)!r} is not a JSON object.",
                    'Write one object per line, such as {"text": "...", "label": "..."}.',
                )
            rows.append(row)
    names = dict.fromkeys(name for row in rows for name in row)
    return Table({name: [row.get(name) for row in rows] for name in names})


def _read_parquet(path: Path) -> Table:
    parquet = _arrow("pyarrow.parquet", "Parquet files")
    return _from_arrow(parquet.ParquetFile(path).read())


def _folder(path: Path) -> Source:
    listing = path / "dataset_dict.json"
    if listing.is_file():
        splits = _guarded_json(listing).get("splits")
        if not isinstance(splits, list) or not splits:
            raise DataError(f"The file {str(listing)!r} names no splits.", "Save the data set again.")
        return Source(path.name, {str(name): partial(_guarded, _read_saved, path / str(name)) for name in splits})
    if (path / "state.json").is_file():
        return Source(path.name, {ONLY: partial(_guarded, _read_saved, path)})
    raise DataError(
        f"The folder {str(path)!r} is not a data set written by datasets' save_to_disk.",
        f"Give such a folder, or a {_FILE_KINDS} file.",
    )


def _guarded_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"The file {str(path)!r} cannot be read: {error}.", "Save the data set again.") from None
    return data if isinstance(data, dict) else {}


def _read_saved(folder: Path) -> Table:
    pa = _arrow("pyarrow", "a saved data set")
    state = _guarded_json(folder / "state.json")
    tables = []
    for entry in state["_data_files"]:
        with pa.memory_map(str(folder / Path(entry["filename"]).name)) as file:
            tables.append(pa.ipc.open_stream(file).read_all())
    return _from_arrow(pa.concat_tables(tables)) if tables else Table({})


def _from_arrow(table: pa.Table) -> Table:
    return Table(table.to_pydict(), _class_names((table.schema.metadata or {}).get(b"huggingface")))


def _class_names(metadata: bytes | None) -> dict[str, list[str]]:
    # datasets writes its features, class names included, into the schema of Arrow and Parquet files.
    if metadata is None:
        return {}
    features = json.loads(metadata).get("info", {}).get("features") or {}
    return {
        name: [str(label) for label in feature["names"]]
        for name, feature in features.items()
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names")
    }


def _arrow(module: str, what: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingExtraError(f"Reading {what} needs pyarrow.", "Install it: pip install pyarrow") from None


def _hub(dataset: str) -> Source:
    try:
        datasets: Any = importlib.import_module("datasets")
    except ImportError:
        raise MissingExtraError(
            f"There is no file or folder {dataset!r}, and reading it as a hub data set needs the datasets library.",
            f"Install it (pip install datasets), or give a {_FILE_KINDS} file.",
        ) from None
    name, _, configuration = dataset.partition(":")
    try:
        loaded = datasets.load_dataset(name, configuration or None)
        return Source(name.rpartition("/")[2], {key: partial(_from_datasets, loaded[key]) for key in loaded})
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = str(error).strip().splitlines()
        raise DataError(
            f"The hub data set {dataset!r} cannot be loaded: {reason[0] if reason else type(error).__name__}",
            "Check the name and the network, or give a local file.",
        ) from None


def _from_datasets(split: Any) -> Table:
    names = {key: list(feature.names) for key, feature in split.features.items() if hasattr(feature, "names")}
    return Table({column: list(split[column]) for column in split.column_names}, names)

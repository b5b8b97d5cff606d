"""Rows as a table for people, as JSON, CSV or Parquet: what every listing command offers."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from autoprune.cli.options import stacked
from autoprune.cli.output import Output
from autoprune.errors import InputError

Row = Mapping[str, Any]

table_options = stacked(
    click.option("--csv", "as_csv", is_flag=True, help="Print CSV on stdout."),
    click.option("--parquet", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write Parquet."),
)


def emit_rows(
    output: Output,
    document: Mapping[str, Any],
    rows: Sequence[Row],
    human: Callable[[], None],
    *,
    as_csv: bool,
    parquet: Path | None,
    columns: Sequence[str] = (),
) -> None:
    """Print or write rows in the form that was asked for.

    Args:
        output: Where to print.
        document: What ``--json`` prints.
        rows: The rows, as nested as the document has them.
        human: Prints them for people.
        as_csv: Print CSV instead.
        parquet: Write this file as well, or None.
        columns: Names of the flat columns, for when there is no row to tell them.

    Raises:
        InputError: Both CSV and JSON were asked for, or the file cannot be written.
    """
    if as_csv and output.as_json:
        raise InputError("--csv and --json cannot share stdout.", "Leave one of them out.")
    flat = [flatten(row) for row in rows]
    if parquet is not None:
        _write_parquet(parquet, flat, columns)
        output.talk(f"wrote {parquet} ({len(flat)} rows)")
    if as_csv:
        output.print(to_csv(flat, columns).rstrip("\n"))
    elif parquet is None or output.as_json:
        output.emit(document, human)


def flatten(row: Row, prefix: str = "") -> dict[str, Any]:
    """Return a row without nesting: ``latency_ms.p50``, intervals as ``.low`` and ``.high``, the policy as one line."""
    from autoprune.policy import PruningPolicy

    out: dict[str, Any] = {}
    for key, value in row.items():
        name = f"{prefix}{key}"
        if key == "policy" and isinstance(value, Mapping):
            out[name] = PruningPolicy.from_dict(value).describe()
        elif isinstance(value, Mapping):
            out.update(flatten(value, f"{name}."))
        elif isinstance(value, list | tuple) and len(value) == 2 and "ci95" in key:
            out[f"{name}.low"], out[f"{name}.high"] = value
        elif isinstance(value, list | tuple):
            out[name] = "; ".join(map(str, value))
        else:
            out[name] = value
    return out


def to_csv(rows: Sequence[Row], columns: Sequence[str] = ()) -> str:
    """Return CSV with the union of all columns, in the order in which they first occur; without rows, ``columns``."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _columns(rows, columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _columns(rows: Sequence[Row], columns: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row)) or list(columns)


def _write_parquet(path: Path, rows: Sequence[Row], columns: Sequence[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = _columns(rows, columns)
    try:
        pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in names}), path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error}.", "Give another file with --parquet.") from None

"""``autoprune history DIGEST``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from autoprune.cli.options import db_option, json_option
from autoprune.cli.output import Output
from autoprune.cli.tabular import emit_rows, table_options
from autoprune.errors import InputError


@click.command("history", short_help="List every stored number of a policy.")
@click.argument("digest")
@table_options
@db_option
@json_option
@click.pass_obj
def command(output: Output, digest: str, as_csv: bool, parquet: Path | None, db: str | None) -> None:
    """List every evaluation and measurement of a policy, over all studies, oldest first.

    Searches store theirs; `autoprune bench` stores none. DIGEST is the policy's digest, or its beginning.
    """
    from autoprune.store import Store

    with Store.open(db) as store:
        rows = store.history(digest)
        document = {"db": store.url_masked, "digest": digest, "history": rows}
    if not rows:
        raise InputError(
            f"No stored policy has a digest that begins with {digest!r}.",
            "`autoprune front STUDY --json` prints the digests of a study's policies.",
        )
    emit_rows(output, document, rows, lambda: _table(output, rows), as_csv=as_csv, parquet=parquet)


def _table(output: Output, rows: list[dict[str, Any]]) -> None:
    known = ("created_at", "study", "trial", "what", "kind", "score", "drop", "kl", "latency_ms", "ratio")
    columns = [name for name in known if any(row.get(name) is not None for row in rows)]
    output.table(columns, [[_cell(row.get(name)) for name in columns] for row in rows])


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)

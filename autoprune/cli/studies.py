"""``autoprune studies``: the list, and ``studies delete``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from autoprune.cli.options import db_option, json_option
from autoprune.cli.output import Output
from autoprune.cli.tabular import emit_rows, table_options
from autoprune.errors import InputError


@click.group("studies", invoke_without_command=True, short_help="List the studies in the database.")
@click.option("--model", metavar="NAME", help="Only studies of this model.")
@click.option("--task", metavar="NAME", help="Only studies of this task.")
@click.option("--hardware", metavar="here|any|DIGEST", help="Only studies made on this hardware.")
@table_options
@db_option
@json_option
@click.pass_context
def command(ctx: click.Context, /, as_csv: bool, parquet: Path | None, db: str | None, **wanted: Any) -> None:
    """List the studies in the database; `studies delete STUDY` removes one."""
    if ctx.invoked_subcommand is not None:
        return
    output: Output = ctx.obj
    from autoprune.engine import queries

    document = queries.list_studies(db, **wanted)
    rows = document["studies"]
    filtered = any(value not in (None, "any") for value in wanted.values())
    emit_rows(
        output,
        document,
        rows,
        lambda: _table(output, rows, filtered),
        as_csv=as_csv,
        parquet=parquet,
        columns=_columns(),
    )


def _columns() -> list[str]:
    """Return the flat columns of a study's line."""
    from dataclasses import fields

    from autoprune.store.rows import DIGESTS, StudySummary

    names = [field.name for field in fields(StudySummary) if field.name != "digests"]
    return [*names, *(f"digests.{name}" for name in DIGESTS)]


def _table(output: Output, rows: list[dict[str, Any]], filtered: bool) -> None:
    if not rows:
        none_yet = "No studies yet; begin one with: autoprune search --budget 20ms"
        output.print("No studies fit these filters; `autoprune studies` lists all." if filtered else none_yet)
        return
    columns = ["name", "status", "model", "task", "budget", "workload", "hardware"]
    output.table(
        [*columns, ">points"],
        [[*(str(row.get(c) or "-") for c in columns), str(row.get("n_points", "-"))] for row in rows],
    )


@command.command("delete", short_help="Delete a study with all its figures.")
@click.argument("study")
@click.option("--yes", is_flag=True, help="Do not ask.")
@db_option
@json_option
@click.pass_obj
def delete(output: Output, study: str, yes: bool, db: str | None) -> None:
    """Delete a study with all its figures and artifacts; there is no way back."""
    from autoprune.report.removal import delete_study
    from autoprune.store import Store

    with Store.open(db) as store:
        name = store.find_study(study).name
        if not yes and not _confirmed(f"Delete study {name!r} and all its figures from {store.url_masked}?"):
            raise InputError("Nothing was deleted.")
        delete_study(store, name)
        document = {"deleted": name, "db": store.url_masked}
    output.emit(document, lambda: output.print(f"deleted {name}"))


def _confirmed(question: str) -> bool:
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        raise InputError(f"There is nobody to ask: {question}", "Add --yes to delete without asking.") from None

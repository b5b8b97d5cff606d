"""``autoprune show STUDY``."""

from __future__ import annotations

import click

from autoprune.cli.options import db_option, json_option
from autoprune.cli.output import Output


@click.command("show", short_help="Show a study: its result, and the front as text.")
@click.argument("study")
@db_option
@json_option
@click.pass_obj
def command(output: Output, study: str, db: str | None) -> None:
    """Show a study: what was asked, what came of it, and the front drawn as text."""
    from autoprune.cli.results import show_result
    from autoprune.engine import queries

    document = queries.show(db, study)
    output.emit(document, lambda: show_result(output, document))

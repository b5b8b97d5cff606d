"""``autoprune front STUDY``."""

from __future__ import annotations

from pathlib import Path

import click

from autoprune.budget import Budget
from autoprune.cli.options import BudgetType, db_option, json_option
from autoprune.cli.output import Output
from autoprune.cli.tabular import emit_rows, table_options


@click.command("front", short_help="List a study's front, or answer another budget from it.")
@click.argument("study")
@click.option("--budget", type=BudgetType(), metavar="BUDGET", help="Answer for this budget; nothing is run again.")
@table_options
@db_option
@json_option
@click.pass_obj
def command(
    output: Output, study: str, budget: Budget | None, as_csv: bool, parquet: Path | None, db: str | None
) -> None:
    """List the policies of a study that no other one beats in both latency and score.

    With --budget, answer from the stored evaluations which of them is best under another budget.
    """
    from autoprune.cli.results import show_front_document
    from autoprune.engine import queries

    document = queries.front(db, study, budget)
    emit_rows(
        output,
        document,
        document["front"],
        lambda: show_front_document(output, document),
        as_csv=as_csv,
        parquet=parquet,
    )

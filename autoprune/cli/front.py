"""``autoprune front STUDY``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from autoprune.budget import Budget
from autoprune.cli.exit_codes import NOT_MET
from autoprune.cli.options import BudgetType, db_option, json_option
from autoprune.cli.output import Output
from autoprune.cli.tabular import emit_rows, table_options

_COLUMNS = (
    "trial", "policy", "digest", "latency_ms.p50", "latency_ms.p95", "latency_ms.mean", "ratio", "ratio_ci95.low",
    "ratio_ci95.high", "speedup", "score", "drop", "drop_ci95.low", "drop_ci95.high", "kl", "agreement", "flops_ratio",
    "end_to_end_ms", "verified",
)  # fmt: skip


@click.command("front", short_help="List a study's front, or answer another budget from it.")
@click.argument("study")
@click.option("--budget", type=BudgetType(), metavar="BUDGET", help="Answer for this budget; nothing is run again.")
@table_options
@db_option
@json_option
@click.pass_obj
def command(
    output: Output, study: str, budget: Budget | None, as_csv: bool, parquet: Path | None, db: str | None
) -> int:
    """List the policies of a study that no other one beats in both latency and score.

    With --budget, answer from the stored evaluations which of them is best under another budget. Exit code: 0
    a stored policy meets it (or dense does), 3 none does.
    """
    from autoprune.cli.results import show_front
    from autoprune.engine import queries

    document = queries.front(db, study, budget)
    emit_rows(
        output,
        document,
        document["front"],
        lambda: show_front(output, document["front"], document["budget"]["statistic"]) if document["front"] else None,
        as_csv=as_csv,
        parquet=parquet,
        columns=_COLUMNS,
    )
    return 0 if document["front"] else _without(output, document)


def _without(output: Output, document: dict[str, Any]) -> int:
    """Say why the front is empty, beside the results; return the exit code."""
    from autoprune.report.words import ms

    budget, nearest = document["budget"], document["nearest_infeasible"]
    statistic = budget["statistic"]
    dense_ms = document["dense"]["latency_ms"][statistic]
    limit = f"{ms(budget['limit_ms'])} ({statistic})"
    if dense_ms <= budget["limit_ms"]:
        output.talk(f"Dense meets {limit} without pruning: {ms(dense_ms)}. Nothing was scored that meets it.")
        return 0
    near = ""
    if nearest is not None:
        upper = nearest["ratio_ci95"][1] * dense_ms
        near = f" The nearest, trial {nearest['trial']}, is sure of {ms(upper)} only."
    output.talk(f"No stored policy of {document['study']} is sure to meet {limit}.{near}")
    return NOT_MET

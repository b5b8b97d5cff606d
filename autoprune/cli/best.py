"""``autoprune best``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from autoprune.budget import Budget
from autoprune.cli.exit_codes import NOT_MET
from autoprune.cli.options import BudgetType, db_option, json_option, stacked
from autoprune.cli.output import Output
from autoprune.cli.tabular import emit_rows, table_options
from autoprune.errors import BudgetError

_filters = stacked(
    click.option("--model", metavar="NAME", help="Only studies of this model."),
    click.option("--task", metavar="NAME", help="Only studies of this task."),
    click.option("--workload", metavar="NAME", help="Only studies of this workload."),
    click.option(
        "--hardware",
        default="here",
        show_default=True,
        metavar="here|any|NAME",
        help="Only studies made on this hardware: milliseconds of other machines do not compare.",
    ),
)


@click.command("best", short_help="Find the best stored policy for a budget, over all studies.")
@click.option("--budget", type=BudgetType(), required=True, metavar="BUDGET", help="Budget in ms or s.")
@click.option("--limit", type=click.IntRange(1), default=10, show_default=True, metavar="N", help="At most so many.")
@_filters
@table_options
@db_option
@json_option
@click.pass_obj
def command(
    output: Output, /, budget: Budget, limit: int, as_csv: bool, parquet: Path | None, db: str | None, **wanted: Any
) -> int:
    """Find the best stored policies for a budget over all studies; nothing is run again.

    Exit code: 0 there are some, 3 none meets it.
    """
    if budget.absolute_ms is None:
        raise BudgetError(
            f"The budget {budget} is relative, and studies differ in what it is relative to.",
            "Give milliseconds, such as 20ms, or ask one study: autoprune front STUDY --budget 40%.",
        )
    wanted["hardware"] = hardware_filter(wanted["hardware"])
    from autoprune.store import Store

    with Store.open(db) as store:
        points = store.best(budget.absolute_ms, statistic=budget.statistic, limit=limit, **wanted)
        document = {"db": store.url_masked, "budget": str(budget), "best": [point.to_dict() for point in points]}
    from autoprune.report.words import ms, number, policy_line

    rows: list[dict[str, Any]] = document["best"]  # type: ignore[assignment]

    def human() -> None:
        if not rows:
            return
        output.table(
            ["study", ">trial", f">{budget.statistic}", ">score", ">drop", "policy"],
            [
                [
                    row["study"],
                    str(row["trial"]),
                    ms(row["latency_ms"]),
                    number(row["score"]),
                    number(row["drop"]),
                    policy_line(row["policy"]),
                ]
                for row in rows
            ],
        )

    emit_rows(output, document, rows, human, as_csv=as_csv, parquet=parquet, columns=_columns())
    if rows:
        return 0
    output.talk("No stored policy meets that; try --hardware any, or a search.")
    return NOT_MET


def _columns() -> list[str]:
    """Return the flat columns of a row."""
    from dataclasses import fields

    from autoprune.store.rows import TrialPoint

    return [field.name for field in fields(TrialPoint)]


def hardware_filter(wanted: str | None) -> str | None:
    """Return the store's filter for ``here``, ``any``, or a description or digest."""
    if wanted in (None, "any"):
        return None
    if wanted != "here":
        return wanted
    from autoprune.latency.hardware import fingerprint

    return fingerprint().digest()

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

    def human() -> None:
        show_result(output, document)
        output.print()
        output.print(_drawing(db, study))

    output.emit(document, human)


def _drawing(db: str | None, study: str) -> str:
    from autoprune.report.gather import gather
    from autoprune.report.text import front_plot
    from autoprune.report.words import pick
    from autoprune.store import Store

    with Store.open(db) as store:
        data = gather(store, study)
    front = {point.trial for point in data.front}
    best_ms, best_score = pick(data.best, "latency_ms", data.statistic), pick(data.best, "score")
    return front_plot(
        data.front,
        others=[point for point in data.points if point.trial not in front],
        dense=None if data.dense_ms is None or data.dense_score is None else (data.dense_ms, data.dense_score),
        best=None if best_ms is None or best_score is None else (best_ms, best_score),
        limit_ms=data.limit_ms,
    )

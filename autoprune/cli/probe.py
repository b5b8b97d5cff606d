"""``autoprune probe``."""

from __future__ import annotations

from typing import Any

import click

from autoprune.cli.options import BudgetType, db_option, json_option, task_options, workload_options
from autoprune.cli.output import Output


@click.command("probe", short_help="Time the model: latency against tokens, and the floor.")
@click.option(
    "--budget",
    type=BudgetType(),
    default="20ms",
    show_default=True,
    metavar="BUDGET",
    help="Budget to judge; its statistic is the one that is timed.",
)
@task_options
@workload_options
@db_option
@json_option
@click.pass_obj
def command(output: Output, /, **options: Any) -> None:
    """Time the model without searching: dense latency, latency against tokens, each scorer's cost, the floor."""
    output.talk("autoprune: loading libraries ...")
    from autoprune.cli.progress import watching
    from autoprune.config import SearchConfig
    from autoprune.engine.probing import run_probe

    config = SearchConfig.of(**options)
    with watching() as observer:
        report = run_probe(config, observer)

    def human() -> None:
        for line in report.lines():
            output.print(line)

    output.emit(report.to_json(), human)

"""``autoprune probe``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from autoprune.cli.options import (
    BudgetType,
    CountsType,
    db_option,
    json_option,
    ray_option,
    task_options,
    workload_options,
)
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
@click.option("--fresh", is_flag=True, help="Probe anew even if a stored probe of this machine still fits.")
@click.option("--throughput", type=CountsType(), default=(), metavar="N,N", help="Batch sizes to count texts/s for.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE.html", help="Write the chart, to open offline.")
@task_options
@workload_options
@ray_option
@db_option
@json_option
@click.pass_obj
def command(output: Output, /, fresh: bool, throughput: tuple[int, ...], plot: Path | None, **options: Any) -> None:
    """Time the model without searching: dense latency, latency against tokens, each scorer's cost, the floor.

    A stored probe of the same machine, model and workload is used again if dense still takes as long.
    """
    output.talk("autoprune: loading libraries ...")
    from autoprune.cli.progress import watching
    from autoprune.config import SearchConfig
    from autoprune.engine.probing import run_probe
    from autoprune.report.probe_page import check_page, write_probe_page

    config = SearchConfig.of(**options)
    if plot is not None:
        check_page(plot)
    with watching() as observer:
        report = run_probe(config, observer, fresh=fresh, batch_sizes=throughput)
    document = report.to_json()
    if plot is not None:
        output.talk(f"wrote {write_probe_page(document, plot)}")

    def human() -> None:
        for line in report.lines():
            output.print(line)

    output.emit(document, human)

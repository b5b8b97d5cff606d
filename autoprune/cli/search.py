"""``autoprune search``."""

from __future__ import annotations

from typing import Any

import click

from autoprune.budget import Budget
from autoprune.cli.options import (
    BudgetType,
    CountOr,
    DurationType,
    db_option,
    json_option,
    ray_option,
    stacked,
    task_options,
    workload_options,
)
from autoprune.cli.output import Output

_search_options = stacked(
    click.option(
        "--budget",
        type=BudgetType(),
        required=True,
        metavar="BUDGET",
        help="Latency budget: 20ms, 0.02s, 60% (of dense) or 2x (faster), if wanted with @p50 or @p95.",
    ),
    click.option(
        "--trials",
        type=click.IntRange(1, 1_000_000),
        metavar="N",
        help="Policies to try; default the space's own number.",
    ),
    click.option(
        "--until",
        type=click.Choice(["converged"]),
        help="Also stop when the next policies are not expected to improve the front.",
    ),
    click.option(
        "--time-limit",
        type=DurationType(),
        metavar="TIME",
        help="Begin no new policy after 90s, 10m, 1h, counted from the start of the command; the probe, policies "
        "that are under way and the verification of the winners are never cut short, so it ends later than that.",
    ),
    click.option("--space", default="quick", show_default=True, metavar="NAME|FILE", help="Search space."),
    click.option("--sampler", default="autoprune", show_default=True, metavar="NAME", help="Who proposes policies."),
    click.option(
        "--workers",
        type=CountOr("auto"),
        default="auto",
        show_default=True,
        metavar="N|auto",
        help="Processes that score policies; more than one run on Ray.",
    ),
    click.option(
        "--gpus-per-worker",
        type=float,
        metavar="SHARE",
        help="GPUs that each Ray worker reserves and scores on: 0.25 puts four workers on one, 2 gives each two; "
        "default 0 with --device cpu, 1 with cuda.",
    ),
    ray_option,
    click.option("--study", metavar="NAME", help="Name of the study; default derived from the search itself."),
    click.option("--new", is_flag=True, help="Begin another study even if this search has one."),
    click.option("-o", "--out", type=click.Path(file_okay=False), metavar="DIR", help="Export the best policy there."),
)


@click.command("search", short_help="Find the best policy under a latency budget.")
@_search_options
@task_options
@workload_options
@db_option
@json_option
@click.pass_obj
def command(output: Output, /, **options: Any) -> int:
    """Find the policy that keeps the most accuracy under a latency budget, measured on this machine.

    Without --model and --dataset it searches the embedded quickstart. The same command resumes a search
    that was interrupted. Exit code: 0 a policy meets the budget (or dense does), 3 none does, 4 too noisy
    to decide, 130 interrupted and saved.
    """
    output.talk(f"autoprune: budget {options['budget']}, loading libraries ...")
    from autoprune.cli.progress import watching
    from autoprune.cli.results import show_result
    from autoprune.config import SearchConfig

    budget: Budget = options.pop("budget")
    config = SearchConfig.of(budget=budget, **options)
    from autoprune.engine.driver import search  # after the options: a mistake in them should not wait for torch

    with watching() as observer:
        result = search(config, observer)
    document = result.to_json()
    output.emit(document, lambda: show_result(output, document, out=options["out"]))
    return result.exit_code

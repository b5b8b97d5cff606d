"""``autoprune bench DIR``."""

from __future__ import annotations

from pathlib import Path

import click

from autoprune.cli.exit_codes import NOT_MET, TOO_NOISY
from autoprune.cli.options import DurationType, PercentType, json_option
from autoprune.cli.output import Output

_MOST_ROUNDS = 100_000  # the time cap ends it


@click.command("bench", short_help="Time and score an export again, and say whether its promise holds.")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--interval",
    type=PercentType(),
    default="3%",
    show_default=True,
    metavar="WIDTH",
    help="Time until the 95 % interval of the ratio is narrower than this, relative to the ratio.",
)
@click.option(
    "--time-cap",
    type=DurationType(),
    default="30s",
    show_default=True,
    metavar="TIME",
    help="End the timing after so long in any case.",
)
@json_option
@click.pass_obj
def command(output: Output, directory: Path, interval: float, time_cap: float) -> int:
    """Time and score an exported model against dense, in pairs, and say whether its promise holds.

    Exit code: 0 it holds (or none was made), 3 it does not, 4 too noisy to decide.
    """
    output.talk("autoprune: loading libraries ...")
    from autoprune.cli.progress import watching
    from autoprune.cli.results import show_bench
    from autoprune.engine import queries
    from autoprune.latency.meter import MeterSettings

    settings = MeterSettings(half_width=interval / 2, max_seconds=time_cap, max_rounds=_MOST_ROUNDS)
    with watching() as observer:
        document = queries.bench(directory, observer, settings)
    output.emit(document, lambda: show_bench(output, document))
    if document["holds"] is not False:
        return 0
    return TOO_NOISY if document["measured"]["noisy"] else NOT_MET

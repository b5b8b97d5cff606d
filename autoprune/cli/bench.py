"""``autoprune bench DIR``."""

from __future__ import annotations

from pathlib import Path

import click

from autoprune.cli.exit_codes import NOT_MET, TOO_NOISY
from autoprune.cli.options import json_option
from autoprune.cli.output import Output


@click.command("bench", short_help="Time and score an export again, and say whether its promise holds.")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@json_option
@click.pass_obj
def command(output: Output, directory: Path) -> int:
    """Time and score an exported model against dense, in pairs, and say whether its promise holds.

    Exit code: 0 it holds (or none was made), 3 it does not, 4 too noisy to decide.
    """
    output.talk("autoprune: loading libraries ...")
    from autoprune.cli.progress import watching
    from autoprune.cli.results import show_bench
    from autoprune.engine import queries

    with watching() as observer:
        document = queries.bench(directory, observer)
    output.emit(document, lambda: show_bench(output, document))
    if document["holds"] is not False:
        return 0
    return TOO_NOISY if document["measured"]["noisy"] else NOT_MET

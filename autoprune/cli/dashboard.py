"""``autoprune dashboard``."""

from __future__ import annotations

import click

from autoprune.cli.options import db_option
from autoprune.cli.output import Output


@click.command("dashboard", short_help="Serve Optuna Dashboard on the database.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Port to listen on.")
@db_option
@click.pass_obj
def command(output: Output, host: str, port: int, db: str | None) -> None:
    """Serve Optuna Dashboard on the database until Ctrl-C.

    It has no log-in: whoever reaches the port can change and delete studies. The default address is reached
    from this machine alone.
    """
    from autoprune.report.dashboard import serve
    from autoprune.store import Store

    with Store.open(db) as store:
        serve(store, host, port, output.talk)

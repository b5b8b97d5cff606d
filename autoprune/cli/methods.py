"""``autoprune methods``."""

from __future__ import annotations

from typing import Any

import click

from autoprune.cli.options import json_option
from autoprune.cli.output import Output


@click.command("methods", short_help="List scorers, reducers and model families.")
@json_option
@click.pass_obj
def command(output: Output) -> None:
    """List what a policy can be made of: scorers, reducers, model families.

    Text encoders with a head for classes can be searched; models of the other families can be given a policy with
    autoprune.attach. --json adds parameters, and for each family which scorers and reducers it refuses and why.
    """
    document = catalogue()

    def human() -> None:
        for kind, entries in document.items():
            output.print(kind)
            for entry in entries:
                output.print(_line(entry))
            output.print()

    output.emit(document, human)


def catalogue() -> dict[str, list[dict[str, Any]]]:
    """Return scorers, reducers and families; see ``describe_methods``."""
    from autoprune.pruning.methods import describe_methods

    return describe_methods()


def _line(entry: dict[str, Any]) -> str:
    """Return one line for people; families say first whether they can be searched."""
    use = ("search, attach; " if entry["searchable"] else "attach only; ") if "searchable" in entry else ""
    return f"  {entry['name']:22} {use}{entry['summary']}"

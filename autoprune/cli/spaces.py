"""``autoprune spaces``: list, show, validate."""

from __future__ import annotations

import click

from autoprune.cli.options import json_option
from autoprune.cli.output import Output


@click.group("spaces", short_help="List, show and check search spaces.")
def command() -> None:
    """Look at the search spaces that ship with autoprune, and check your own."""


@command.command("list")
@json_option
@click.pass_obj
def list_spaces(output: Output) -> None:
    """List the spaces that ship with autoprune."""
    from autoprune.spaces.listing import summaries  # knows names alone: checking the methods would load torch

    rows = summaries()

    def human() -> None:
        cells = [(row["name"], str(row["trials"]), row["description"]) for row in rows]
        output.table(("space", ">trials", "what is in it, and for which models"), cells)

    output.emit({"spaces": rows}, human)


@command.command("show")
@click.argument("name")
@json_option
@click.pass_obj
def show(output: Output, name: str) -> None:
    """Print a space: its YAML, or with --json its content with all defaults."""
    from autoprune.spaces.listing import shipped, space_path

    document = {}
    if output.as_json or name not in shipped():
        from autoprune.spaces.schema import load_space_file  # one's own file is checked before it is shown

        document = load_space_file(name).model_dump(mode="json")
    output.emit(document, lambda: output.print(space_path(name).read_text(encoding="utf-8").rstrip("\n")))


@command.command("validate")
@click.argument("file")
@json_option
@click.pass_obj
def validate(output: Output, file: str) -> None:
    """Check a space file; a mistake is named with its line."""
    from autoprune.spaces.schema import load_space_file

    space = load_space_file(file)
    output.emit({"valid": True, "name": space.name}, lambda: output.print(f"{file}: the space {space.name!r} is valid"))

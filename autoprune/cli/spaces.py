"""``autoprune spaces``: list, show, validate."""

from __future__ import annotations

from pathlib import Path

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
    from autoprune.spaces.schema import load_space_file, shipped

    files = [load_space_file(name) for name in shipped()]
    rows = [{"name": file.name, "trials": file.trials, "description": file.description} for file in files]

    def human() -> None:
        for row in rows:
            output.print(f"{row['name']:16} {row['trials']:>4} trials   {row['description']}")

    output.emit({"spaces": rows}, human)


@command.command("show")
@click.argument("name")
@json_option
@click.pass_obj
def show(output: Output, name: str) -> None:
    """Print a space: its YAML, or with --json its content with all defaults."""
    from autoprune.resources import resource
    from autoprune.spaces.schema import load_space_file, shipped

    file = load_space_file(name)
    path = resource("search_spaces", f"{name}.yaml") if name in shipped() else Path(name)
    output.emit(file.model_dump(mode="json"), lambda: output.print(path.read_text(encoding="utf-8").rstrip("\n")))


@command.command("validate")
@click.argument("file")
@json_option
@click.pass_obj
def validate(output: Output, file: str) -> None:
    """Check a space file; a mistake is named with its line."""
    from autoprune.spaces.schema import load_space_file

    space = load_space_file(file)
    output.emit({"valid": True, "name": space.name}, lambda: output.print(f"{file}: the space {space.name!r} is valid"))

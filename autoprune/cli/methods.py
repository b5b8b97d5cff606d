"""``autoprune methods``."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from autoprune.cli.options import json_option
from autoprune.cli.output import Output


@click.command("methods", short_help="List scorers, reducers and model families.")
@json_option
@click.pass_obj
def command(output: Output) -> None:
    """List what a policy can be made of, one line each: scorers, reducers, and the model families."""
    document = catalogue()

    def human() -> None:
        for kind, entries in document.items():
            output.print(kind)
            for entry in entries:
                output.print(f"  {entry['name']:16} {entry['summary']}")
            output.print()

    output.emit(document, human)


def catalogue() -> dict[str, list[dict[str, Any]]]:
    """Return scorers, reducers and families, each with ``name`` and ``summary``."""
    from autoprune._registry import REDUCERS, SCORERS
    from autoprune.pruning.families import FAMILIES

    return {
        "scorers": [_method(name, method) for name, method in SCORERS.items()],
        "reducers": [_method(name, method) for name, method in REDUCERS.items()],
        "families": [
            {"name": family.name, "summary": family.summary, "model_types": list(family.model_types)}
            for family in FAMILIES
        ],
    }


def _method(name: str, method: Any) -> dict[str, Any]:
    parameters = {field.name: field.metadata.get("help", "") for field in dataclasses.fields(method.Params)}
    return {"name": name, "summary": method.summary, "needs": sorted(method.needs), "parameters": parameters}

"""``autoprune explain DIR``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from autoprune.cli.options import json_option
from autoprune.cli.output import Output


@click.command("explain", short_help="Show which tokens of a text leave at which stage.")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--text", required=True, metavar="TEXT", help="The text.")
@json_option
@click.pass_obj
def command(output: Output, directory: Path, text: str) -> None:
    """Run a text through an exported model and show which tokens leave at which stage."""
    from autoprune.deploy.explain import explain

    document = explain(directory, text)
    output.emit(document, lambda: _human(output, document))


def _human(output: Output, document: dict[str, Any]) -> None:
    tokens = document["tokens"]
    output.print(f"{len(tokens)} tokens")
    for stage in document["stages"]:
        gone = set(stage["left"])
        output.print()
        output.print(f"{stage['stage']}: {len(gone)} leave, {stage['tokens']} go on")
        # Brackets rather than colour: they survive a pipe and need no eyes for colour.
        output.print(
            " ".join(
                f"[{token}]" if i in gone else token
                for i, token in enumerate(tokens)
                if i in gone or i in set(stage["kept"])
            )
        )
    output.print()
    same = "as without pruning" if document["label"] == document["dense_label"] else f"dense: {document['dense_label']}"
    output.print(f"answer {document['label']} ({same})")

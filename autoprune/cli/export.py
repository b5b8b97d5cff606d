"""``autoprune export STUDY``."""

from __future__ import annotations

from pathlib import Path

import click

from autoprune.cli.options import db_option, json_option
from autoprune.cli.output import Output


@click.command("export", short_help="Write a policy with its model to a folder that loads in one line.")
@click.argument("study")
@click.option("--trial", type=click.IntRange(0), metavar="N", help="Trial to export; default the study's best.")
@click.option(
    "-o",
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    metavar="DIR",
    help="Folder to write; an older export there is replaced.",
)
@click.option(
    "--onnx",
    is_flag=True,
    help="Also write model.onnx: the policy inside, for texts of the workload's one length, without padding "
    "(extra onnx).",
)
@db_option
@json_option
@click.pass_obj
def command(output: Output, study: str, trial: int | None, out: Path, onnx: bool, db: str | None) -> None:
    """Write the unchanged weights, the tokenizer and the policy with its measured figures to DIR."""
    output.talk("autoprune: loading libraries ...")
    from autoprune.cli.progress import watching
    from autoprune.cli.results import loading_lines, onnx_lines
    from autoprune.engine import queries

    with watching() as observer:
        document = queries.export(db, study, trial, out, observer, onnx=onnx)

    def human() -> None:
        output.print(f"wrote {document['directory']}")
        output.print()
        for line in loading_lines(str(out)):
            output.print(line)
        if onnx:
            output.print()
            for line in onnx_lines(str(out), document["onnx"]):
                output.print(line)

    output.emit(document, human)

"""``autoprune report STUDY``."""

from __future__ import annotations

from pathlib import Path

import click

from autoprune.cli.options import db_option, json_option
from autoprune.cli.output import Output


@click.command("report", short_help="Write a study as one self-contained HTML file.")
@click.argument("study")
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("report.html"),
    show_default=True,
    metavar="FILE",
    help="File to write.",
)
@click.option("--markdown", is_flag=True, help="Print a section for a model card instead.")
@db_option
@json_option
@click.pass_obj
def command(output: Output, study: str, out: Path, markdown: bool, db: str | None) -> None:
    """Write a study as one self-contained HTML file, or print a model card's section with --markdown."""
    from autoprune.store import Store

    with Store.open(db) as store:
        if markdown:
            from autoprune.report.card import markdown_card

            text = markdown_card(store, study)
            output.emit({"study": study, "markdown": text}, lambda: output.print(text))
            return
        from autoprune.report.html import write_report

        written = write_report(store, study, out)
    output.emit({"study": study, "file": str(written)}, lambda: output.print(f"wrote {written}"))

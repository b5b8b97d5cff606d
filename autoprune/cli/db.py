"""``autoprune db``: path, check, upgrade, vacuum, export, import."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from autoprune.cli.options import db_option, json_option
from autoprune.cli.output import Output


@click.group("db", short_help="Look after the database.")
def command() -> None:
    """Look after the database that holds all studies."""


@command.command("path")
@db_option
@json_option
@click.pass_obj
def path(output: Output, db: str | None) -> None:
    """Print where the database is; nothing is opened or made."""
    from autoprune.store import upkeep

    where = upkeep.path(db)
    output.emit({"path": where}, lambda: output.print(where))


@command.command("check")
@db_option
@json_option
@click.pass_obj
def check(output: Output, db: str | None) -> int:
    """Look at everything that can be wrong with the database; exit code 1 if something is."""
    from autoprune.store import Store, upkeep

    with Store.open(db) as store:
        findings = upkeep.check(store)
        document = {
            "db": store.url_masked,
            "ok": all(finding.ok for finding in findings),
            "findings": [vars(finding) for finding in findings],
        }

    def human() -> None:
        for finding in findings:
            output.print(f"{'ok' if finding.ok else 'WRONG':6} {finding.what:12} {finding.detail}")

    output.emit(document, human)
    return 0 if document["ok"] else 1


@command.command("upgrade")
@db_option
@json_option
@click.pass_obj
def upgrade(output: Output, db: str | None) -> None:
    """Bring the tables to the installed versions of autoprune and Optuna."""
    from autoprune.store import upkeep

    document = upkeep.upgrade(db)

    def human() -> None:
        output.print(f"autoprune schema {document['from'] or 'none'} -> {document['to']}")
        output.print(f"optuna schema    {document['optuna_from']} -> {document['optuna_to']}")

    output.emit(document, human)


@command.command("vacuum")
@db_option
@json_option
@click.pass_obj
def vacuum(output: Output, db: str | None) -> None:
    """Give unused space back to the system."""
    from autoprune.store import Store, upkeep

    with Store.open(db) as store:
        document = upkeep.vacuum(store)

    def human() -> None:
        if document["bytes_before"] is None:
            output.print("vacuumed")
        else:
            output.print(f"{document['bytes_before']:,} -> {document['bytes_after']:,} bytes")

    output.emit(document, human)


@command.command("export")
@click.argument("study")
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), required=True, metavar="FILE")
@db_option
@json_option
@click.pass_obj
def export(output: Output, study: str, out: Path, db: str | None) -> None:
    """Write a study with all its figures to one file that opens on another machine."""
    from autoprune.store import Store
    from autoprune.store.transfer import export_study

    with Store.open(db) as store:
        written = export_study(store, study, out)
    document: dict[str, Any] = {"study": study, "file": str(written), "bytes": written.stat().st_size}
    output.emit(document, lambda: output.print(f"wrote {written} ({document['bytes']:,} bytes)"))


@command.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", metavar="NAME", help="Another name for the study.")
@db_option
@json_option
@click.pass_obj
def import_(output: Output, file: Path, name: str | None, db: str | None) -> None:
    """Read a study that `autoprune db export` wrote, completely or not at all."""
    from autoprune.store import Store
    from autoprune.store.transfer import import_study

    with Store.open(db) as store:
        study = import_study(store, file, name)
        document = {"study": study, "db": store.url_masked}
    output.emit(document, lambda: output.print(f"imported {study} into {document['db']}"))

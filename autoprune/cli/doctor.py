"""``autoprune doctor``."""

from __future__ import annotations

import importlib.util
import platform
from typing import Any

import click

import autoprune
from autoprune.cli.options import db_option, json_option
from autoprune.cli.output import Output
from autoprune.errors import AutopruneError

# (extra, module that it brings, what is missing without it)
_EXTRAS = (
    ("postgres", "psycopg", "databases on PostgreSQL"),
    ("mlflow", "mlflow", "logging to MLflow"),
    ("onnx", "onnxruntime", "--runtime onnxruntime, export to ONNX"),
)
_PACKAGES = ("torch", "transformers", "optuna", "ray", "sqlalchemy", "pandas")


@click.command("doctor", short_help="Say what on this machine makes figures false, and what is missing.")
@db_option
@json_option
@click.pass_obj
def command(output: Output, db: str | None) -> None:
    """Look at this machine: CPU quota, busy neighbours, too many threads, missing extras, files, the database."""
    from autoprune.latency.hardware import fingerprint, machine_warnings

    document = {
        "autoprune": autoprune.__version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "hardware": fingerprint().to_dict(),
        "warnings": [*machine_warnings(), *_install_warnings(), *_database_warnings(db)],
        "missing_extras": [
            {"extra": extra, "without": without}
            for extra, module, without in _EXTRAS
            if importlib.util.find_spec(module) is None
        ],
    }
    output.emit(document, lambda: _human(output, document, fingerprint().describe()))


def _human(output: Output, document: dict[str, Any], machine: str) -> None:
    versions = ", ".join(f"{name} {version or 'MISSING'}" for name, version in document["packages"].items())
    output.print(f"autoprune {document['autoprune']}, Python {document['python']}, {versions}")
    output.print(f"machine   {machine}")
    for extra in document["missing_extras"]:
        output.print(
            f"extra     {extra['extra']} is not installed (no {extra['without']}): "
            f"pip install 'autoprune[{extra['extra']}]'"
        )
    for warning in document["warnings"]:
        output.print(f"warning   {warning}")
    if not document["warnings"]:
        output.print("ok        nothing here disturbs measurements")


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _install_warnings() -> list[str]:
    from autoprune.resources import cache_dir, data_dir, resource

    found = [
        f"{name} is not installed: pip install -c constraints.txt autoprune"
        for name in _PACKAGES
        if _version(name) is None
    ]
    for check in (cache_dir, data_dir, lambda: resource("search_spaces"), lambda: resource("dashboards")):
        try:
            check()
        except AutopruneError as error:
            found.append(str(error))
    return found


def _database_warnings(db: str | None) -> list[str]:
    from autoprune.store import Store

    try:
        Store.open(db).close()
    except AutopruneError as error:
        return [str(error)]
    return []

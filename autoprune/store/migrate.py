"""Schema versions: Alembic, run from the program, with a version table of its own beside Optuna's."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect, text

from autoprune.errors import SchemaVersionError
from autoprune.store.engine import WRITE

if TYPE_CHECKING:
    from alembic.config import Config

VERSION_TABLE = "ap_alembic_version"
HEAD = "0001"  # a test holds it against the newest file in migrations/versions
KNOWN = ("0001",)


def current(connection: Connection) -> str | None:
    """Return the schema version of the database, or None if it has none of our tables yet."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    row = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).first()
    return None if row is None else str(row[0])


def is_current(engine: Engine) -> bool:
    """Tell whether the database has exactly this program's schema."""
    with engine.connect() as connection:
        return current(connection) == HEAD


def upgrade(engine: Engine, shown: str, *, read_only: bool = False) -> bool:
    """Bring the database to this program's schema, in one transaction.

    Args:
        engine: Our engine.
        shown: The database's address for people.
        read_only: Refuse instead of writing.

    Returns:
        Whether anything was changed.

    Raises:
        SchemaVersionError: The database is newer than the program, or old and not to be written.
    """
    with engine.connect() as connection:
        version = current(connection)
    check_known(version, shown)
    if version == HEAD:
        return False
    if read_only:
        raise SchemaVersionError(
            f"The database {shown} has schema {version or 'none'} and not {HEAD}, and it is opened read-only.",
            "Open it once writable: autoprune db upgrade.",
        )
    with engine.connect().execution_options(**{WRITE: True}) as connection, connection.begin():
        _run(connection)
    return True


def check_known(version: str | None, shown: str) -> None:
    """Raise ``SchemaVersionError`` for a version this program has never heard of."""
    if version is not None and version not in KNOWN:
        raise SchemaVersionError(
            f"The database {shown} has schema {version}, which is newer than this program's {HEAD}.",
            "Update autoprune (pip install -U autoprune), or use another database with --db.",
        )


def _run(connection: Connection) -> None:
    from alembic import command  # local: nearly a second, and only needed when there is something to do

    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def alembic_config() -> Config:
    """Return Alembic's configuration; also for whoever writes the next migration."""
    from alembic.config import Config

    config = Config()
    # Alembic expands percent signs in options.
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config

"""Database addresses: a plain path, ``sqlite:///...`` or ``postgresql://...``; credentials never leave here."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from autoprune.errors import StoreError

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9]+)(?:\+([A-Za-z0-9_]+))?:(?=//|$)")
# Everything between the scheme and the last @ before the path, and secrets given as query parameters.
_USERINFO = re.compile(r"(?<=://)([^/@\s:]*):([^\s]*)@(?=[^@\s]*(?:\s|$))")
_SECRET_PARAMETER = re.compile(r"(?i)\b(password|passwd|sslpassword|token)=([^&\s]+)")
_FORMS = "Give a file path, sqlite:///path/to/file.db, or postgresql://user@host/database."


def mask(text: str) -> str:
    """Return the text with the password of any database URL in it replaced by ``***``."""
    return _SECRET_PARAMETER.sub(r"\1=***", _USERINFO.sub(r"\1:***@", text))


@dataclass(frozen=True)
class Address:
    """Where the database is.

    Attributes:
        backend: ``sqlite`` or ``postgresql``.
        url: What SQLAlchemy opens; holds the password: never print it.
        masked: The same for people.
        path: The SQLite file, or None.
        read_only: Whether the URL itself asks for a read-only connection (SQLite ``mode=ro``).
    """

    backend: str
    url: str = field(repr=False)
    masked: str
    path: Path | None = None
    read_only: bool = False


def parse(url: str | os.PathLike[str] | None) -> Address:
    """Read a database address; None is ``AUTOPRUNE_DB`` or the file under the user's data directory.

    Raises:
        StoreError: The address has no form that autoprune knows.
    """
    if url is None:
        url = os.environ.get("AUTOPRUNE_DB") or default_path()
    text = os.fspath(url).strip()
    if not text:
        raise StoreError("The database address is empty.", _FORMS)
    scheme = _SCHEME.match(text)
    if scheme is None:
        return _sqlite_file(Path(text))
    backend = scheme[1].lower()
    if backend == "sqlite":
        return _sqlite_url(text)
    if backend in ("postgresql", "postgres"):
        return _postgresql(text)
    raise StoreError(f"autoprune keeps studies in SQLite or PostgreSQL, not in {backend!r}.", _FORMS)


def default_path() -> Path:
    """Return the SQLite file that is used when nothing else is said."""
    from autoprune.resources import data_dir

    return data_dir() / "autoprune.db"


def _sqlite_file(path: Path) -> Address:
    path = _real(path)
    return Address("sqlite", f"sqlite:///{_quoted(path)}", f"sqlite:///{path}", path)


def _real(path: Path) -> Path:
    # Locks lie beside the file: through a link, two drivers would each hold one of their own.
    return Path(os.path.realpath(path.expanduser()))


def _quoted(path: Path) -> str:
    # A question mark would start the query part of the URL; percent signs are taken literally by SQLAlchemy.
    return str(path).replace("?", "%3F")


def _sqlite_url(text: str) -> Address:
    match = re.fullmatch(r"(?i)sqlite(?:\+pysqlite)?://(/.*)", text)
    name = match[1][1:] if match else ""
    if not name or name == ":memory:":
        raise StoreError("A database in memory would lose the studies with the process.", _FORMS)
    if not name.startswith("file:"):
        return _sqlite_file(Path(name.partition("?")[0]))
    file, _, query = name.removeprefix("file:").partition("?")
    path = _real(Path(file))
    parameters = set(filter(None, query.split("&"))) - {"uri=true"}
    if parameters - {"mode=ro", "immutable=1"}:
        raise StoreError("Only mode=ro and immutable=1 are known parameters of an SQLite file URL.", _FORMS)
    shown = f"sqlite:///file:{path}?" + "&".join([*sorted(parameters), "uri=true"])
    return Address("sqlite", shown, shown, path, read_only=bool(parameters))


def _postgresql(text: str) -> Address:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(text)
        url = url.set(drivername="postgresql+psycopg")
        if not url.database:
            raise ValueError
    except (ArgumentError, ValueError):
        # Neither the text nor SQLAlchemy's message: either may hold a password.
        raise StoreError("The PostgreSQL address cannot be understood or names no database.", _FORMS) from None
    if "@" in (url.host or ""):
        # Half of the password would be taken for the host, and shown.
        raise StoreError("The PostgreSQL address holds more than one @.", "Write an @ in a password as %40.")
    shown = mask(url.set(drivername="postgresql").render_as_string(hide_password=True))
    return Address("postgresql", url.render_as_string(hide_password=False), shown)

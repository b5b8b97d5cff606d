"""What databases complain about, in plain words: driver errors become ``StoreError`` with a hint."""

from __future__ import annotations

import os
from pathlib import Path

from autoprune.errors import StoreError
from autoprune.store.urls import Address, mask

_EFFECTIVE = os.access in os.supports_effective_ids

# (words in the driver's message, what is wrong, what to do); the first match counts.
_SQLITE = (
    ("readonly database", "is read-only: nothing was written", "Make the file and its folder writable, or use --db."),
    ("read-only", "is read-only: nothing was written", "Make the file and its folder writable, or use --db."),
    (
        "disk is full",
        "cannot grow: the disk is full; the last step was undone",
        "Free some space and run the same command again.",
    ),
    ("database is locked", "is locked by another process", "Close the other program that writes to it and try again."),
    (
        "database table is locked",
        "is locked by another process",
        "Close the other program that writes to it and try again.",
    ),
    ("not a database", "is no SQLite database", "Give another path with --db, or move the file away."),
    ("malformed", "is damaged", "Restore a copy, or save what is left: sqlite3 FILE .recover > rescue.sql."),
    (
        "unable to open database file",
        "cannot be opened",
        "Check that the path is right and that the folder exists and is writable.",
    ),
    ("disk i/o error", "cannot be read or written (disk error)", "Check the disk, then run `autoprune db check`."),
)
_POSTGRES = (
    ("password authentication failed", "refused the user name or password", "Check the credentials in the URL."),
    ("no password supplied", "asks for a password", "Give it in the URL, in PGPASSWORD or in ~/.pgpass."),
    ("role", "does not know this user", "Create the role, or give another user in the URL."),
    ("does not exist", "does not exist", "Create it first: createdb NAME."),
    ("connection refused", "does not answer", "Check that the server runs and that host and port are right."),
    ("could not translate host", "has an unknown host name", "Check the host in the URL."),
    ("failed to resolve host", "has an unknown host name", "Check the host in the URL."),
    ("timeout", "does not answer in time", "Check host, port and network."),
    ("no space left", "cannot grow: the disk is full; the last step was undone", "Free some space on the server."),
    ("read-only transaction", "is read-only: nothing was written", "Use the primary server, not a replica."),
    ("permission denied", "does not allow this user to write", "Grant the role CREATE and USAGE on the schema."),
    ("terminating connection", "closed the connection", "Run the same command again: it resumes."),
    ("server closed the connection", "closed the connection", "Run the same command again: it resumes."),
    ("connection is closed", "closed the connection", "Run the same command again: it resumes."),
)


def describe(address: Address, message: str, *, connecting: bool = False) -> StoreError | None:
    """Return the error to show for a driver's message, or None if the message names no known fault.

    Args:
        address: The database.
        message: The driver's text; passwords in it are masked.
        connecting: Whether the connection itself failed: then there is always an answer.
    """
    text = message.lower()
    for words, wrong, hint in _SQLITE if address.backend == "sqlite" else _POSTGRES:
        # "does not exist" is also what a missing table says: only a failed connection means the database.
        if words in text and (connecting or words not in ("role", "does not exist", "timeout")):
            return StoreError(f"The database {address.masked} {wrong}.", hint)
    if connecting:
        first = mask(message.strip().splitlines()[0]) if message.strip() else "no reason given"
        return StoreError(
            f"The database {address.masked} cannot be opened: {first}", "Check the address given with --db."
        )
    return None


def check_file(address: Address) -> None:
    """Look at an SQLite file before anything opens it, and make its folder.

    Raises:
        StoreError: The path is a folder, the file is no database, or it is shorter than its header says.
    """
    path = address.path
    if path is None:
        return
    if path.is_dir():
        raise StoreError(f"The database {path} is a folder.", "Give the path of a file, such as studies.db.")
    if address.read_only:
        if not path.exists():
            raise StoreError(f"The database {path} does not exist.", "Check the path.")
    else:
        _check_writable(path)
    try:
        _check_header(path)
    except PermissionError:
        raise StoreError(
            f"The database {path} cannot be read: permission denied.", "Check the file's owner and mode."
        ) from None


def _check_writable(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"The folder {path.parent} cannot be made: {error.strerror}.", "Give another path with --db."
        ) from None
    if not path.exists() and os.access(path.parent, os.W_OK, effective_ids=_EFFECTIVE):
        return
    # SQLite keeps its write-ahead log beside the file, so the folder counts too.
    if not all(os.access(place, os.W_OK, effective_ids=_EFFECTIVE) for place in (path, path.parent)):
        raise StoreError(
            f"The database {path} is read-only.",
            f"Make the file and its folder writable; to look only, use --db 'sqlite:///file:{path}?immutable=1'.",
        )


def _check_header(path: Path) -> None:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = file.read(100)
    except FileNotFoundError:
        return
    if size == 0:
        return
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        raise StoreError(
            f"The file {path} is no SQLite database.", "Give another path with --db, or move the file away."
        )
    page = int.from_bytes(header[16:18], "big")
    expected = int.from_bytes(header[28:32], "big") * (65536 if page == 1 else page)
    valid = header[24:28] == header[92:96]  # otherwise an old writer left the page count stale
    wal = path.with_name(path.name + "-wal")
    # With a write-ahead log the missing pages may still be in the log: SQLite sorts that out itself.
    if valid and size < expected and not (wal.exists() and wal.stat().st_size):
        raise StoreError(
            f"The database {path} is cut short: {size} of {expected} bytes are there.",
            "Restore a copy, or save what is left: sqlite3 FILE .recover > rescue.sql. Nothing was changed.",
        )

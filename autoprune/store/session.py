"""Sessions: every write is one transaction; ``transaction()`` joins several writes into one."""

from __future__ import annotations

import difflib
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import ColumnElement, Engine, and_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import InstrumentedAttribute, Session

from autoprune.errors import AmbiguousStudyError, StoreError, StudyNotFoundError
from autoprune.store import tables
from autoprune.store.engine import WRITE, clean
from autoprune.store.urls import Address

CHUNK = 500  # keys per query: databases limit the number of parameters
_NAMED = 5  # studies that an ambiguous beginning lists


class Database:
    """An open database: what the parts of the store share.

    Args:
        address: Where it is.
        engine: Our engine on it.
    """

    def __init__(self, address: Address, engine: Engine) -> None:
        self.address = address
        self.engine = engine
        self._active = threading.local()

    @property
    def url_masked(self) -> str:
        """The address for people: no password."""
        return self.address.masked

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Join all writes of this thread inside the block into one transaction: all of them, or none.

        Raises:
            StoreError: The database is read-only, full or locked; nothing was written.
        """
        session: Session | None = getattr(self._active, "session", None)
        if session is not None:
            yield session
            return
        self._check_writable()
        with Session(self.engine) as session:
            session.connection(execution_options={WRITE: True})
            self._active.session = session
            try:
                yield session
                session.commit()
            finally:
                self._active.session = None

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Yield a session to read with: the one of the running transaction, or a new one."""
        session: Session | None = getattr(self._active, "session", None)
        if session is not None:
            yield session
            return
        with Session(self.engine) as session:
            yield session

    def _check_writable(self) -> None:
        if self.address.read_only:
            raise StoreError(f"The database {self.url_masked} is opened read-only.", "Open it without mode=ro.")

    def study_row(self, session: Session, name: str) -> tables.Study:
        """Return the row of a study.

        Raises:
            StudyNotFoundError: There is none of that name; the hint names the nearest.
        """
        row = session.scalar(select(tables.Study).where(tables.Study.name == name))
        if row is None:
            names = list(session.scalars(select(tables.Study.name)))
            raise self.no_such_study(name, names)
        return row

    def study_id(self, session: Session, name: str) -> int:
        """Return the id of a study without reading its row: that holds the probe and the printed result.

        Raises:
            StudyNotFoundError: There is none of that name; the hint names the nearest.
        """
        found = session.scalar(select(tables.Study.id).where(tables.Study.name == name))
        return self.study_row(session, name).id if found is None else found

    def no_such_study(self, name: str, names: list[str]) -> StudyNotFoundError:
        """Return the error for an unknown study, with the nearest names."""
        near = difflib.get_close_matches(name, names, n=1) or [known for known in names if known.startswith(name)][:1]
        guess = f"Did you mean {near[0]}? " if near else ""
        return StudyNotFoundError(
            f"There is no study {name!r} in {self.url_masked}.",
            f"{guess}`autoprune studies` lists {len(names)} of them.",
        )

    def ambiguous(self, name: str, fitting: list[str]) -> AmbiguousStudyError:
        """Return the error for a beginning that fits several studies, with their names."""
        shown, more = fitting[:_NAMED], len(fitting) - _NAMED
        others = f" and {more} more" if more > 0 else ""
        return AmbiguousStudyError(
            f"The name {name!r} is ambiguous: {len(fitting)} studies in {self.url_masked} begin so: "
            f"{', '.join(shown)}{others}.",
            "Write more of the name.",
        )

    def unmeasured(self, name: str) -> StoreError:
        """Return the error for a study that holds no figures: a driver was killed right after it made the study."""
        return StoreError(
            f"The study {name!r} in {self.url_masked} holds no figures: its search was stopped right after it began.",
            "Repeat the search command; it goes on.",
        )

    def insert_missing(self, session: Session, table: type[tables.Base], values: Mapping[str, Any]) -> None:
        """Insert a row whose primary key is a digest, unless it is there already."""
        build = sqlite.insert if self.address.backend == "sqlite" else postgresql.insert
        session.execute(build(table).values(**values).on_conflict_do_nothing())


def begins_with(digest: InstrumentedAttribute[str], start: str) -> ColumnElement[bool]:
    """Return the condition that a sha256 (hex) begins so; a range, because LIKE would not use the index."""
    return and_(digest >= start, digest < f"{start}g")


def digest_of(facts: Mapping[str, Any]) -> str:
    """Return a dict's own ``digest``, or the sha256 of its canonical JSON."""
    own = facts.get("digest")
    if isinstance(own, str) and own:
        return own
    return hashlib.sha256(canonical(facts).encode()).hexdigest()


def canonical(facts: Mapping[str, Any]) -> str:
    """Return JSON that is the same for equal dicts, whatever the order of their keys."""
    return json.dumps(clean(facts), sort_keys=True, allow_nan=False)


def described(facts: Mapping[str, Any], *keys: str) -> str:
    """Return the first of the given entries that is a text, else an empty one."""
    for key in (*keys, "described", "describe", "description", "name"):
        value = facts.get(key)
        if isinstance(value, str) and value:
            return value
    return ""

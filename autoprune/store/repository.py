"""``Store``: one open database, ours and Optuna's tables in it."""

from __future__ import annotations

import logging
import os
from contextlib import AbstractContextManager
from functools import cached_property
from typing import TYPE_CHECKING, Self

from autoprune.errors import SchemaVersionError, StudyLockedError
from autoprune.store import faults, locks, migrate, urls
from autoprune.store.assets import Assets
from autoprune.store.engine import engine_kwargs, explain_faults, explained, make_engine, use_wal, uses_wal
from autoprune.store.fronts import Fronts
from autoprune.store.numbers import Numbers
from autoprune.store.studies import Studies

if TYPE_CHECKING:
    from optuna.storages import RDBStorage


class Store(Studies, Numbers, Assets, Fronts):
    """Everything autoprune keeps. Open it with ``Store.open``; only the driver writes."""

    @classmethod
    def open(cls, url: str | os.PathLike[str] | None = None) -> Self:
        """Open a database, and make or migrate our tables in it.

        Args:
            url: A file path, ``sqlite:///...`` or ``postgresql://...``; None: ``AUTOPRUNE_DB`` or the
                file under the user's data directory.

        Raises:
            StoreError: It cannot be opened, read or (if its schema is old) written; passwords are masked.
            SchemaVersionError: It was written by a newer program.
            MissingExtraError: PostgreSQL without its driver.
        """
        address = urls.parse(url)
        faults.check_file(address)
        engine = make_engine(address)
        store = cls(address, engine)
        try:
            if not (uses_wal(engine, address) and migrate.is_current(engine)):
                with locks.schema_lock(address, engine):
                    use_wal(engine, address)
                    migrate.upgrade(engine, address.masked, read_only=address.read_only)
        except BaseException:
            engine.dispose()
            raise
        return store

    @cached_property
    def storage(self) -> RDBStorage:
        """Optuna's storage on the same database, with the same settings.

        Raises:
            SchemaVersionError: Optuna's own tables are of another version.
        """
        return self.open_storage()

    def open_storage(self, *, check: bool = True) -> RDBStorage:
        """Open Optuna's storage; see ``storage``.

        Args:
            check: Refuse tables of another version. Without it the storage can be upgraded.

        Raises:
            SchemaVersionError: Optuna's own tables are of another version.
        """
        from optuna.exceptions import StorageInternalError
        from optuna.storages import RDBStorage  # local: with Alembic nearly two seconds, and readers need neither

        # Whatever is new is said by whoever makes it, in its own words.
        logging.getLogger("optuna.storages._rdb.storage").setLevel(logging.WARNING)
        # Optuna fills {SCHEMA_VERSION} into the address: other braces must be doubled.
        url = self.address.url.replace("{", "{{").replace("}", "}}")
        try:
            with locks.schema_lock(self.address, self.engine), explained(self.address):
                storage = RDBStorage(
                    url,
                    engine_kwargs=engine_kwargs(self.address),
                    skip_compatibility_check=not check,
                    skip_table_creation=self.address.read_only,
                )
        except StorageInternalError as error:  # how Optuna wraps a fault while it writes its version
            raise faults.describe(self.address, str(error.__cause__)) or error from error
        except RuntimeError as error:
            raise SchemaVersionError(
                f"The Optuna tables in {self.url_masked} have another version than the installed Optuna.",
                "Run `autoprune db upgrade`, or update Optuna: pip install -U optuna.",
            ) from error
        explain_faults(storage.engine, self.address)
        return storage

    def lock(self, study: str) -> AbstractContextManager[None]:
        """Return the study's lock, which dies with the process; entering it raises ``StudyLockedError`` if taken."""
        return locks.study_lock(self.address, self.engine, study)

    def is_locked(self, study: str) -> bool:
        """Tell whether a driver works on the study right now."""
        try:
            with self.lock(study):
                return False
        except StudyLockedError:
            return True

    def delete_study(self, study: str) -> None:
        """Delete a study, its rows and Optuna's study; policies, tables and cost tables stay for others.

        Raises:
            StudyNotFoundError: There is none of that name.
            StudyLockedError: A driver works on it.
        """
        from autoprune.store.optuna_study import delete_optuna_study

        with self.lock(study):
            # Ours last: if the process dies in between, the same command finishes the work.
            with self.reading() as session:
                self.study_row(session, study)
            delete_optuna_study(self.storage, study)
            self._delete_rows(study)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()
        if "storage" in self.__dict__:
            self.storage.remove_session()
            self.storage.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

"""Writes the golden database of the current schema: run it once per released schema and commit the file.

python tests/store/golden/make_golden.py
"""

import contextlib
import sqlite3
import tempfile
from pathlib import Path

from autoprune.store import Store
from autoprune.store.migrate import HEAD
from autoprune.testing.studies import make_study


def make(target: Path) -> None:
    """Write a small finished study into one compact file."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "golden.db"
        with Store.open(source) as store:
            make_study(store, "golden", n_trials=5)
        target.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(source)) as raw:
            # Small pages: the file holds forty nearly empty tables and indexes.
            for statement in ("PRAGMA journal_mode=DELETE", "PRAGMA page_size=512", f"VACUUM INTO '{target}'"):
                raw.execute(statement)


if __name__ == "__main__":
    make(Path(__file__).with_name(f"{HEAD}.db"))

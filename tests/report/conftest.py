"""A made-up study to report on, and headless Chromium where it can be had."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

from autoprune.store import Store, tables
from autoprune.testing.studies import MadeStudy, make_study

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
         "--hide-scrollbars", "--virtual-time-budget=20000", "--enable-logging=stderr")  # fmt: skip
Browse = Callable[..., tuple[str, list[str]]]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with one finished study ``s``; tests that write copy it."""
    path = tmp_path_factory.mktemp("finished") / "studies.db"
    with Store.open(path) as store:
        make_study(store, "s", n_trials=20)
    return path


@pytest.fixture
def store(finished: Path, tmp_path: Path) -> Iterator[Store]:
    with Store.open(finished) as source, Store.open(tmp_path / "studies.db") as target:
        with source.engine.connect() as connection:
            connection.connection.driver_connection.backup(target.engine.raw_connection().driver_connection)  # type: ignore[union-attr]
        target.engine.dispose()
        yield target


@pytest.fixture
def made() -> MadeStudy:
    return MadeStudy("s", 20.0, 20)


@pytest.fixture
def browse(tmp_path: Path) -> Browse:
    """Open a page with no network but this machine: (DOM, console lines)."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        reason = "Chromium is not installed (Debian: apt-get install chromium)"
        if "chromium" in os.environ.get("AUTOPRUNE_REQUIRE", "").split(","):
            pytest.fail(f"AUTOPRUNE_REQUIRE names chromium, but {reason}")
        pytest.skip(reason)

    def open_page(url: str, *flags: str) -> tuple[str, list[str]]:
        offline = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
        command = [chromium, *FLAGS, offline, f"--user-data-dir={tmp_path}/profile", *flags, "--dump-dom", url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180)
        return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    return open_page


@pytest.fixture
def with_password(store: Store) -> Store:
    """The same database as an early version left it: the options hold its address, with a password."""
    config = store.require_study("s").config
    options = config["options"] | {"db": "postgresql://me:geheim@host/x"}
    with store.transaction() as session:
        session.execute(update(tables.Study).values(config=config | {"options": options}))
    return store

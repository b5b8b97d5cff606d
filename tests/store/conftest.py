"""Databases for the store's tests: SQLite always, a real PostgreSQL where one can be had."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autoprune.store import Store

ROOT = Path(__file__).resolve().parents[2]
RunCode = Callable[..., "subprocess.Popen[str]"]


def missing(what: str, reason: str) -> None:
    """Skip with the reason, or fail where AUTOPRUNE_REQUIRE names what is missing."""
    if what in os.environ.get("AUTOPRUNE_REQUIRE", "").split(","):
        pytest.fail(f"AUTOPRUNE_REQUIRE names {what}, but {reason}")
    pytest.skip(reason)


def _postgres_tools() -> Path | None:
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    return versions[-1] if versions else None


def _as_postgres(*command: str) -> list[str]:
    # PostgreSQL refuses to run as root.
    return ["runuser", "-u", "postgres", "--", *command] if os.geteuid() == 0 else list(command)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a server: AUTOPRUNE_TEST_POSTGRES, or a temporary cluster of its own."""
    given = os.environ.get("AUTOPRUNE_TEST_POSTGRES")
    if given:
        yield given
        return
    tools = _postgres_tools()
    if tools is None:
        missing("postgres", "PostgreSQL is not installed (Debian: apt-get install postgresql)")
    try:
        import psycopg  # noqa: F401
    except ImportError:
        missing("postgres", "psycopg is not installed (pip install 'autoprune[postgres]')")
    home = Path(tempfile.mkdtemp(prefix="autoprune-postgres-"))
    if os.geteuid() == 0:
        shutil.chown(home, "postgres")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    control = [f"{tools}/pg_ctl", "-D", f"{home}/data"]
    options = f"-k {home} -p {port} -c listen_addresses=127.0.0.1 -c fsync=off"
    try:
        run = {"check": True, "cwd": home, "stdout": subprocess.DEVNULL}
        subprocess.run(_as_postgres(f"{tools}/initdb", "-D", f"{home}/data", "-A", "trust", "-U", "postgres"), **run)
        subprocess.run(_as_postgres(*control, "-o", options, "-l", f"{home}/log", "-w", "start"), **run)
        yield f"postgresql://postgres:geheim@127.0.0.1:{port}/postgres"
        subprocess.run(_as_postgres(*control, "-m", "immediate", "stop"), **run)
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of a fresh database on the server."""
    import psycopg

    name = f"autoprune_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield postgres_server.rpartition("/")[0] + f"/{name}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return str(tmp_path / "studies.db")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """A fresh database of each kind."""
    return str(request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url"))


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with Store.open(url) as opened:
        yield opened


@pytest.fixture
def run_code() -> Iterator[RunCode]:
    """Start a Python process that runs a text; it is killed when the test ends."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *args: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", code, *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()

"""Which addresses are understood, and that passwords stay inside."""

from pathlib import Path

import pytest

from autoprune.errors import StoreError
from autoprune.store import urls


@pytest.mark.parametrize("form", ["{}", "sqlite:///{}", "sqlite+pysqlite:///{}"])
def test_forms_of_a_file(tmp_path: Path, form: str) -> None:
    path = tmp_path / "a.db"
    address = urls.parse(form.format(path))
    assert (address.backend, address.path, address.masked) == ("sqlite", path, f"sqlite:///{path}")


def test_relative_and_home_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert urls.parse("a.db").path == tmp_path / "a.db"
    assert urls.parse("sqlite:///sub/a.db").path == tmp_path / "sub" / "a.db"
    assert urls.parse("~/a.db").path == tmp_path / "home" / "a.db"
    assert urls.parse(Path("a.db")).path == tmp_path / "a.db"


def test_default_is_the_environment_then_the_data_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOPRUNE_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("AUTOPRUNE_DB", raising=False)
    assert urls.parse(None).path == tmp_path / "autoprune.db"
    monkeypatch.setenv("AUTOPRUNE_DB", f"sqlite:///{tmp_path}/other.db")
    assert urls.parse(None).path == tmp_path / "other.db"


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg", "postgresql+psycopg2"])
def test_postgres_uses_the_driver_we_test(scheme: str) -> None:
    address = urls.parse(f"{scheme}://me:geheim@host:5433/studies?sslmode=require")
    assert address.url == "postgresql+psycopg://me:geheim@host:5433/studies?sslmode=require"
    assert address.masked == "postgresql://me:***@host:5433/studies?sslmode=require"
    assert "geheim" not in repr(address)


@pytest.mark.parametrize(
    "text", ["", "  ", "sqlite://", "sqlite:///:memory:", "mysql://h/d", "postgresql://h", "redis://h"]
)
def test_addresses_that_cannot_be_used(text: str) -> None:
    with pytest.raises(StoreError) as caught:
        urls.parse(text)
    assert "sqlite:///" in caught.value.hint


def test_mask_works_inside_sentences() -> None:
    text = "cannot reach postgresql://me:ge@heim@host/d?password=x&a=b at all"
    assert urls.mask(text) == "cannot reach postgresql://me:***@host/d?password=***&a=b at all"
    assert urls.mask("sqlite:////tmp/me@home/a.db") == "sqlite:////tmp/me@home/a.db"


def test_a_link_is_the_file_that_it_points_to(tmp_path: Path) -> None:
    # Two drivers that name one file differently must meet at one lock.
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    wanted = urls.parse(tmp_path / "real" / "s.db")
    assert urls.parse(tmp_path / "link" / "s.db") == wanted
    file = f"sqlite:///file:{tmp_path}/link/s.db?mode=ro"
    assert urls.parse(file).path == wanted.path

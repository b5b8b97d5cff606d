"""The files that hold the set-up together agree with each other."""

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

import autoprune
from autoprune import resources
from autoprune.errors import AssetError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def project() -> Any:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    found = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


def test_every_dependency_is_pinned_within_its_range(project: Any, pins: dict[str, str]) -> None:
    extras = [text for texts in project["optional-dependencies"].values() for text in texts]
    for text in [*project["dependencies"], *extras]:
        wanted = Requirement(text)
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        assert name in pins, name
        assert wanted.specifier.contains(pins[name]), text


def test_torch_is_pinned_without_a_local_version(pins: dict[str, str]) -> None:
    assert pins["torch"] == "2.13.0"
    assert not any("+" in version for version in pins.values())


def test_the_changelog_and_readme_know_the_version_and_the_commands() -> None:
    assert f"## [{autoprune.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
    readme = (ROOT / "README.md").read_text()
    for line in ("make search", "make test", "-c constraints.txt", "https://download.pytorch.org/whl/cpu"):
        assert line in readme


@pytest.mark.parametrize(("status", "sentence"), [(0, ""), (3, "no policy meets 7ms"), (4, "too disturbed"), (1, "")])
def test_make_search_passes_the_status_on_and_explains_it(tmp_path: Path, status: int, sentence: str) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "autoprune"
    program.write_text(f'#!/bin/sh\necho "ran $*"\nexit {status}\n')
    program.chmod(0o755)
    (tmp_path / "bin" / "python").symlink_to("/bin/false")  # an install would fail the test
    (tmp_path / ".installed").touch()
    done = subprocess.run(
        ["make", "search", f"VENV={tmp_path}", "BUDGET=7ms"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "ran search --budget 7ms" in done.stdout
    assert (done.returncode == 0) == (status == 0)
    assert sentence in done.stderr
    assert ("honest outcome" in done.stderr) == (status in (3, 4))
    if status:
        assert f"Error {status}" in done.stderr


def test_make_refuses_an_old_python_in_words(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = subprocess.run(
        ["make", "search", f"VENV={tmp_path / 'venv'}", f"PYTHON={old}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "needs Python 3.11" in done.stderr


def test_ci_runs_make_test() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)
    text = script.read_text()
    assert "set -euo pipefail" in text
    assert "AUTOPRUNE_REQUIRE=postgres,chromium" in text
    assert text.rstrip().endswith("make test")


def test_missing_resources_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert resources.resource("search_spaces", "quick.yaml").is_file()
    with pytest.raises(AssetError, match=r"search_spaces/nope\.yaml"):
        resources.resource("search_spaces", "nope.yaml")
    # In a wheel, what stands beside the package is not ours.
    (tmp_path / "search_spaces").mkdir()
    monkeypatch.setattr(resources, "_CHECKOUT", tmp_path)
    with pytest.raises(AssetError):
        resources.resource("search_spaces")


def test_user_folders_follow_their_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AUTOPRUNE_DATA_DIR", str(tmp_path / "data" / "deep"))
    monkeypatch.setenv("AUTOPRUNE_CACHE_DIR", str(tmp_path / "cache"))
    assert resources.data_dir() == tmp_path / "data" / "deep"
    assert resources.cache_dir() == tmp_path / "cache"
    assert (tmp_path / "cache").is_dir()
    monkeypatch.delenv("AUTOPRUNE_DATA_DIR")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert resources.data_dir() == tmp_path / "xdg" / "autoprune"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AUTOPRUNE_DATA_DIR", str(tmp_path / "file" / "x"))
    with pytest.raises(AssetError, match="AUTOPRUNE_DATA_DIR"):
        resources.data_dir()

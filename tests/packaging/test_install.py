"""A wheel in a bare environment and an editable install both find the files that ship with autoprune."""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import autoprune

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted(
    f"{folder}/{path.relative_to(ROOT / folder)}"
    for folder in ("search_spaces", "dashboards")
    for path in (ROOT / folder).rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
)


def call(*words: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def bare_environment(folder: Path) -> Path:
    """Make an environment with nothing of its own; the dependencies are borrowed from the running one."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    own = Path(call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    # A plain path line: .pth files over there (an editable autoprune, say) are not followed.
    borrowed = dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
    (own / "borrowed.pth").write_text("".join(f"{path}\n" for path in borrowed))
    return python


def install(python: Path, *what: str | Path, cwd: Path) -> None:
    call(
        sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps",
        "--no-build-isolation", *what, cwd=cwd,
    )  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def from_wheel(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    python = bare_environment(tmp_path_factory.mktemp("bare"))
    install(python, wheel, cwd=wheel.parent)
    return python


@pytest.fixture(scope="module")
def editable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("editable")
    python = bare_environment(folder)
    install(python, "--editable", ROOT, cwd=folder)
    return python


def check_install(python: Path, home: Path, cwd: Path) -> None:
    program = "import autoprune; from autoprune.resources import resource; print(autoprune.__file__)\n"
    program += f"for name in {SHIPPED!r}: print(resource(*name.split('/')))\n"
    program += "from autoprune.spaces.schema import load_space_file, shipped\n"
    program += "print([load_space_file(name).name for name in shipped()])"
    lines = call(python, "-c", program, cwd=cwd).splitlines()
    assert all(Path(line).is_relative_to(home) for line in lines[:-1]), lines
    assert len(lines) == len(SHIPPED) + 2
    assert "quick" in lines[-1]
    assert "search" in call(python.parent / "autoprune", "--help", cwd=cwd)
    assert autoprune.__version__ in call(python, "-m", "autoprune", "--version", cwd=cwd)


def test_a_wheel_in_a_bare_environment(from_wheel: Path, tmp_path: Path) -> None:
    check_install(from_wheel, from_wheel.parents[1], tmp_path)


def test_an_editable_install(editable: Path, tmp_path: Path) -> None:
    check_install(editable, ROOT, tmp_path)


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    info = f"autoprune-{autoprune.__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"autoprune", info}
    assert {f"autoprune/{name}" for name in SHIPPED} <= set(names)
    assert {"autoprune/py.typed", f"{info}/licenses/LICENSE", f"{info}/entry_points.txt"} <= set(names)
    in_tree = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "autoprune").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert in_tree <= set(names)


def test_the_metadata_names_version_license_and_extras(wheel: Path) -> None:
    info = f"autoprune-{autoprune.__version__}.dist-info/METADATA"
    text = zipfile.ZipFile(wheel).read(info).decode()
    for line in ("License-Expression: Apache-2.0", "Requires-Python: >=3.11", "Provides-Extra: postgres"):
        assert line in text
    assert "Requires-Dist: torch" in text

"""Errors, exit codes and start-up of the command line."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import click
import pytest

from autoprune.cli import main as main_module
from autoprune.cli.main import app
from autoprune.errors import DataError, TooNoisyError

HEAVY = ("torch", "ray", "transformers", "optuna", "sqlalchemy", "pandas", "pydantic", "numpy", "rich", "sklearn")
COMMANDS = [name for names in main_module._SECTIONS.values() for name in names]
GROUPS = {
    "studies": ["delete"],
    "db": ["path", "check", "upgrade", "vacuum", "export", "import"],
    "spaces": ["list", "show", "validate"],
}
Cli = Callable[..., Any]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Let ``autoprune doctor`` raise something."""

    def install(error: BaseException) -> None:
        def command(**_options: Any) -> None:
            raise error

        found = app.get_command(click.Context(app), "doctor")
        assert found is not None
        monkeypatch.setattr(found, "callback", command)

    return install


def test_no_help_loads_a_heavy_package() -> None:
    lines = [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)]
    lines += [[group, name, "--help"] for group, names in GROUPS.items() for name in names]
    program = f"""
import contextlib, io, sys
from autoprune.cli.main import run
for args in {lines!r}:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = run(args)
    assert code == 0 and out.getvalue(), args
    loaded = [name for name in {HEAVY!r} if name in sys.modules]
    assert not loaded, (args, loaded)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_import_alone_loads_nothing_heavy() -> None:
    program = f"""
import sys, autoprune
assert autoprune.__version__ and autoprune.Budget.parse("20ms").absolute_ms == 20
assert callable(autoprune.search) and "search" in dir(autoprune)
loaded = [name for name in {HEAVY!r} + ("click",) if name in sys.modules]
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_names_every_command(cli: Cli) -> None:
    out = cli("--help").out
    assert [name for name in COMMANDS if f"  {name} " not in out] == []


def test_python_dash_m_is_the_same_program() -> None:
    done = subprocess.run([sys.executable, "-m", "autoprune", "no-such"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: No such command 'no-such'.\nhint: ")


@pytest.mark.parametrize("budget", ["20", "-3ms", "abc", "0%", "@p50", "120%", "20ms@p99", ""])
def test_malformed_budgets_are_usage_errors(cli: Cli, budget: str) -> None:
    ran = cli("search", "--budget", budget)
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.startswith("error: ")
    assert repr(budget) in ran.err
    assert "hint: Write it like 20ms" in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("search",), "Missing option '--budget'"),
        (("search", "--budget", "20ms", "--nope"), "No such option '--nope'"),
        (("search", "--budget", "20ms", "--trials", "0"), "--trials"),
        (("search", "--budget", "20ms", "--threads", "-1"), "neither 'auto' nor a whole number from 1"),
        (("search", "--budget", "20ms", "--seq-len", "long"), "neither 'data' nor a whole number from 1, nor a list"),
        (("search", "--budget", "20ms", "--seq-len", "64,0"), "nor a list of such (64,128)"),
        (("search", "--budget", "20ms", "--time-limit", "soon"), "not a duration"),
        (("search", "--budget", "20ms", "--dtype", "float8"), "--dtype"),
        (("show",), "Missing argument 'STUDY'"),
        (("db", "nope"), "No such command 'nope'"),
    ],
)
def test_usage_errors_in_words_and_in_json(cli: Cli, args: tuple[str, ...], words: str) -> None:
    ran = cli(*args)
    assert (ran.code, ran.out) == (2, "")
    assert words in ran.err
    assert "hint: See `autoprune" in ran.err
    ran = cli(*args, "--json")
    assert ran.code == 2
    assert set(ran.json) == {"error"}
    assert ran.json["error"]["code"] == "usage"
    assert words in ran.json["error"]["message"]
    assert ran.err == ""


@pytest.mark.parametrize(
    ("args", "guess"),
    [
        (("serch",), "Did you mean 'search'?"),
        (("studes", "--json"), "Did you mean 'studies'?"),
        (("db", "chek"), "Did you mean"),
        (("search", "--budgt", "20ms"), "--budget"),
        (("front", "s", "--budge", "20ms"), "--budget"),
        (("studies", "delet"), "Did you mean"),
    ],
)
def test_mistyped_names_get_a_guess(cli: Cli, args: tuple[str, ...], guess: str) -> None:
    ran = cli(*args)
    assert ran.code == 2
    assert guess in (ran.json["error"]["message"] if "--json" in args else ran.err)


def test_own_errors_keep_their_exit_code_and_hint(cli: Cli, failing: Callable[[BaseException], None]) -> None:
    failing(DataError("The data set is empty.", "Give another file."))
    ran = cli("doctor")
    assert (ran.code, ran.out, ran.err) == (2, "", "error: The data set is empty.\nhint: Give another file.\n")
    failing(TooNoisyError("Too noisy.", ""))
    ran = cli("doctor", "--json")
    assert ran.code == 4
    assert ran.json == {"error": {"code": "too_noisy", "message": "Too noisy.", "hint": ""}}


def test_unknown_errors_are_called_bugs(
    cli: Cli, failing: Callable[[BaseException], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(KeyError("lost"))
    ran = cli("doctor")
    assert ran.code == 1
    assert "KeyError: 'lost' (this is a bug in autoprune)" in ran.err
    assert "AUTOPRUNE_DEBUG=1" in ran.err
    assert "Traceback" not in ran.err
    assert cli("doctor", "--json").json["error"]["code"] == "internal"
    monkeypatch.setenv("AUTOPRUNE_DEBUG", "1")
    assert "Traceback" in cli("doctor").err


def test_ctrl_c_ends_with_130(cli: Cli, failing: Callable[[BaseException], None]) -> None:
    failing(KeyboardInterrupt())
    ran = cli("doctor")
    assert ran.code == 130
    assert "Stopped by Ctrl-C" in ran.err
    assert cli("doctor", "--json").json["error"]["code"] == "interrupted"


def test_sigint_of_a_process_ends_with_130() -> None:
    program = "import time, autoprune.cli.doctor as d, autoprune.cli.main as m; "
    program += "d.command.callback = lambda **k: (print('ready', flush=True), time.sleep(60)); m.main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "doctor"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err


@pytest.mark.parametrize("args", [("spaces", "list"), ("spaces", "list", "--json")])
def test_a_reader_that_leaves_is_no_error(args: tuple[str, ...]) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "autoprune", *args], stdout=write, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(write)
    assert done.stderr == ""
    assert done.returncode == 1


def test_warnings_for_users_are_one_line_and_others_are_silent(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    import warnings

    def command(**_options: Any) -> None:
        warnings.warn("look\nhere", UserWarning, stacklevel=1)
        warnings.warn("soon gone", DeprecationWarning, stacklevel=1)

    found = app.get_command(click.Context(app), "doctor")
    assert found is not None
    monkeypatch.setattr(found, "callback", command)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    with warnings.catch_warnings():
        assert cli("doctor").err == "warning: look here\n"


def test_json_is_the_only_thing_on_stdout(monkeypatch: pytest.MonkeyPatch) -> None:
    program = """
import os, subprocess, sys, autoprune.cli.methods as methods, autoprune.cli.main as m
def noisy():
    print("a library prints")
    os.write(1, b"a C extension prints\\n")
    subprocess.run([sys.executable, "-c", "print('a child prints')"])
    return {"scorers": [float("nan"), float("inf"), (1, 2)], "text": "é"}
methods.catalogue = noisy
m.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program, "methods", "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"scorers": [None, None, [1, 2]], "text": "é"}
    assert "a child prints" in done.stderr
    assert "a C extension prints" in done.stderr

"""Entry point: finds the command, runs it, and turns every error into two lines and an exit code."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

import click

import autoprune
from autoprune.cli.output import DEBUG, Output, debugging, opened
from autoprune.errors import AutopruneError

INTERRUPTED = 130
_SECTIONS = {
    "Search": ("search", "probe"),
    "Results": ("studies", "show", "front", "best", "history", "report", "dashboard"),
    "Models": ("export", "bench", "explain"),
    "Housekeeping": ("db", "doctor", "methods", "spaces"),
}


class _Commands(click.Group):
    """The commands, each imported when it is asked for: ``autoprune.cli.NAME`` holds ``command``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return [name for names in _SECTIONS.values() for name in names]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import a command; None if there is none of that name."""
        if name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(f"autoprune.cli.{name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; for one that is not there, name the nearest (Click knows only commands it was given)."""
        if args and args[0] not in self.list_commands(ctx) and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            guess = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"No such command {args[0]!r}.{guess}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands under the headings of ``_SECTIONS``."""
        for section, names in _SECTIONS.items():
            with formatter.section(section):
                commands = [(name, self.get_command(ctx, name)) for name in names]
                formatter.write_dl([(name, found.get_short_help_str(90)) for name, found in commands if found])


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with: autoprune search --budget 20ms",
)
@click.version_option(autoprune.__version__, prog_name="autoprune")
def app() -> None:
    """Find the token-pruning policy that keeps the most accuracy under a latency budget, on this machine."""


def main() -> NoReturn:
    """Run the command line of this process."""
    sys.exit(run(sys.argv[1:]))


def run(args: Sequence[str]) -> int:
    """Run one command line and return its exit code.

    Codes: 0 done, 1 failure, 2 usage or bad input, 3 no policy meets the budget, 4 too noisy to decide,
    130 interrupted and saved.
    """
    try:
        with opened("--json" in args) as output:
            return _run(list(args), output)
    except BrokenPipeError:  # the reader (head, less) has seen enough
        return _hang_up()


def _run(args: list[str], output: Output) -> int:
    _quiet_warnings(output)
    try:
        status = app.main(args, prog_name="autoprune", standalone_mode=False, obj=output)
    except click.ClickException as error:
        output.error("usage", error.format_message(), _usage_hint(error))
        return error.exit_code
    except click.Abort:
        output.error("interrupted", "Stopped by Ctrl-C.", "What was saved is kept; the same command goes on.")
        return INTERRUPTED
    except AutopruneError as error:
        _trace()
        output.error(error.code, error.message, error.hint)
        return error.exit_code
    except BrokenPipeError:
        raise
    # The last line of defence: whatever else was raised is a fault of ours, and is said to be one.
    except Exception as error:  # noqa: BLE001
        _trace()
        output.error(
            "internal",
            f"{type(error).__name__}: {' '.join(str(error).split())} (this is a bug in autoprune).",
            f"Set {DEBUG}=1 to see the traceback, and report it with the command that you ran.",
        )
        return 1
    return status if isinstance(status, int) else 0


def _usage_hint(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f"See `{context.command_path if context else 'autoprune'} --help`."


def _trace() -> None:
    if debugging():
        traceback.print_exc()


def _hang_up() -> int:
    # The interpreter flushes stdout once more at exit, which would complain again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 1


def _quiet_warnings(output: Output) -> None:
    """Show warnings that are meant for users as one line, and leave those for programmers out."""
    if debugging():
        return
    warnings.simplefilter("ignore", DeprecationWarning)
    warnings.simplefilter("ignore", FutureWarning)

    def show(message: Warning | str, category: type[Warning], *_place: Any, **_more: Any) -> None:
        if issubclass(category, UserWarning):
            output.talk(f"warning: {' '.join(str(message).split())}")

    warnings.showwarning = show

"""The one way in which commands speak: results on stdout (tables, or one JSON document), talk on stderr."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any

DEBUG = "AUTOPRUNE_DEBUG"


class Output:
    """What a command prints.

    Args:
        as_json: Whether stdout is to be one JSON document and nothing else.
        stdout: Where results go.
    """

    def __init__(self, as_json: bool, stdout: IO[str] | None = None) -> None:
        self.as_json = as_json
        self._stdout = stdout

    def emit(self, document: Mapping[str, Any], human: Callable[[], None]) -> None:
        """Print a result: the document with ``--json``, else whatever ``human`` prints."""
        if self.as_json:
            self._write(json.dumps(_plain(document), ensure_ascii=False, allow_nan=False, indent=2) + "\n")
        else:
            human()

    def print(self, text: str = "") -> None:
        """Print a line of the result for people."""
        self._write(text + "\n")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table for people; columns whose name starts with ``>`` are aligned to the right."""
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        stream = self._stdout or sys.stdout
        # A file or a pipe has no width and is read by other programs: nothing is cut, wrapped or ruled there.
        terminal = stream.isatty()
        table = Table(box=SIMPLE_HEAD if terminal else None, pad_edge=False, padding=(0, 2, 0, 0))
        for column in columns:
            table.add_column(
                column.removeprefix(">"),
                justify="right" if column.startswith(">") else "left",
                no_wrap=column != columns[-1],
                # What is typed again must be readable however narrow the terminal is.
                min_width=max((len(row[0]) for row in rows), default=1) if column == columns[0] else None,
                overflow="ellipsis",
            )
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        text = io.StringIO()
        Console(file=stream if terminal else text, width=None if terminal else 10_000, highlight=False).print(table)
        self._write("".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines()))

    def talk(self, text: str) -> None:
        """Print a line of talk, which is no result, on stderr."""
        print(text, file=sys.stderr, flush=True)

    def error(self, code: str, message: str, hint: str) -> None:
        """Print an error: two lines on stderr, or a JSON document on stdout."""
        if self.as_json:
            self.emit({"error": {"code": code, "message": message, "hint": hint}}, lambda: None)
            return
        self.talk(f"error: {message}")
        if hint:
            self.talk(f"hint: {hint}")

    def _write(self, text: str) -> None:
        stream = self._stdout or sys.stdout
        stream.write(text)
        stream.flush()


@contextlib.contextmanager
def opened(as_json: bool) -> Iterator[Output]:
    """Give the output of one run of the program.

    With ``--json``, file descriptor 1 leads to stderr meanwhile, so that nothing that a library, a C
    extension or a worker process prints can get into the document.
    """
    if not as_json:
        if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal that knows no ● shows an escape, not a traceback
            sys.stdout.reconfigure(errors="backslashreplace")
        yield Output(False)
        return
    sys.stdout.flush()
    try:
        same = sys.stdout.fileno() == 1
    except (OSError, ValueError, AttributeError):
        same = False
    if not same:  # stdout was replaced inside this process (a test, a notebook): replace that
        stream = sys.stdout
        with contextlib.redirect_stdout(sys.stderr):
            yield Output(True, stream)
        return
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        with open(os.dup(saved), "w", encoding="utf-8") as stream:
            yield Output(True, stream)
    finally:
        sys.stdout.flush()
        os.dup2(saved, 1)
        os.close(saved)


def debugging() -> bool:
    """Say whether the user asked for tracebacks."""
    return os.environ.get(DEBUG, "") not in ("", "0")


def _plain(value: Any) -> Any:
    """Return ``value`` in JSON types; figures that JSON cannot hold (infinity, not-a-number) become null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if hasattr(value, "item"):  # a numpy scalar
        return _plain(value.item())
    return str(value)

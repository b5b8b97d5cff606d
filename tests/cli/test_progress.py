"""Progress: lines where there is no terminal, a bar without a thread where there is one."""

import io
import threading

from autoprune.cli.progress import PlainProgress, TerminalProgress, describe, watching


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_come_every_ten_seconds_and_at_the_end() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = PlainProgress(stream, clock)
    progress.phase("search", 20)
    progress.update(feasible=3, best=0.91234)
    for _ in range(20):
        clock.now += 1
        progress.advance()
    assert stream.getvalue().splitlines() == [
        "search (0/20) ...",
        "search 10/20  feasible 3 · best 0.9123",
        "search 20/20  feasible 3 · best 0.9123",
    ]


def test_plain_phases_without_a_total_and_messages() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = PlainProgress(stream, clock)
    progress.phase("probe")
    progress.advance()
    clock.now = 11
    progress.advance(4)
    progress.message("floor 6.2 ms")
    progress.done()
    assert stream.getvalue() == "probe ...\nprobe 5\nfloor 6.2 ms\n"


def test_the_terminal_shows_bar_and_findings_without_a_thread() -> None:
    stream = Terminal()
    threads = threading.active_count()
    with watching(stream) as progress:
        assert isinstance(progress, TerminalProgress)
        progress.advance()  # before any phase: nothing to move, nothing to break
        progress.update(best=0.5)
        progress.phase("search", 3)
        progress.update(feasible=1, best=None)
        progress.advance()
        progress.message("[baseline] 50.0 ms")
        progress.phase("verify", 1)
        assert threading.active_count() == threads
    text = stream.getvalue()
    assert "search" in text
    assert "verify" in text
    assert "[baseline] 50.0 ms" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is back


def test_a_pipe_gets_plain_lines() -> None:
    stream = io.StringIO()
    with watching(stream) as progress:
        assert isinstance(progress, PlainProgress)


def test_figures_in_words() -> None:
    assert describe({"best_score": 0.9, "drop": None, "n": 4}) == "best score 0.9 · n 4"

"""Without the progress bars of transformers: a model on the local disk is loaded before a bar could be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers.utils import logging

_logging: Any = logging  # its functions carry no types


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Switch the progress bars of transformers off meanwhile."""
    shown = _logging.is_progress_bar_enabled()
    _logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            _logging.enable_progress_bar()

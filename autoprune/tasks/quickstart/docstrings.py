"""From a source file to clean docstrings, and the index that finds near-duplicates."""

from __future__ import annotations

import ast
import re
import warnings
import zlib
from collections import Counter, defaultdict
from pathlib import Path

MIN_CHARS = 200  # a docstring must be longer than this after cleaning
MAX_CHARS = 4000  # far beyond 256 tokens
_SHINGLE_WORDS = 4
_SAME = 0.5  # share of the smaller text's shingles that makes two texts near-duplicates
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_WORD = re.compile(r"[a-z0-9]+")


def read_docstrings(path: Path) -> list[str]:
    """Return the docstrings of a Python file, in source order; none if it cannot be parsed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's sources
            tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return []
    found = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, _DOCUMENTED))
    return [text for text in found if text and len(text) > MIN_CHARS]


def clean(text: str, names: re.Pattern[str]) -> str:
    """Blank the library names and squeeze white space inside lines.

    Args:
        text: A docstring.
        names: From ``name_pattern``.
    """
    text = names.sub("", text)
    lines = (re.sub(r"[ \t]+", " ", line).strip() for line in text.splitlines())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()[:MAX_CHARS]


def shingles(text: str) -> frozenset[int]:
    """Return the hashed runs of four normalised words (lower case, letters and digits only)."""
    words = _WORD.findall(text.lower())
    last = max(1, len(words) - _SHINGLE_WORDS + 1)
    return frozenset(zlib.crc32(" ".join(words[i : i + _SHINGLE_WORDS]).encode()) for i in range(last))


class NearDuplicates:
    """Index of accepted texts that refuses what is nearly one of them."""

    def __init__(self) -> None:
        self._sizes: list[int] = []
        self._where: defaultdict[int, list[int]] = defaultdict(list)

    def accept(self, text: str) -> bool:
        """Add ``text`` unless it shares half of the smaller text's shingles with an accepted one."""
        mine = shingles(text)
        shared = Counter(other for shingle in mine for other in self._where.get(shingle, ()))
        for other, count in shared.items():
            if count >= _SAME * min(len(mine), self._sizes[other]):
                return False
        for shingle in mine:
            self._where[shingle].append(len(self._sizes))
        self._sizes.append(len(mine))
        return True

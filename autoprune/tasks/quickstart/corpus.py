"""The docstring corpus: built from installed sources in seconds, cached, fingerprinted.

Files are split by the hash of their path, and files, docstrings and so the sample are taken in
hash order, so that the same library versions give the same corpus on every machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoprune import resources
from autoprune.errors import AssetError
from autoprune.tasks.quickstart.docstrings import MIN_CHARS, NearDuplicates, clean, read_docstrings
from autoprune.tasks.quickstart.libraries import LIBRARIES, Library, name_pattern

BUILDER_VERSION = 1  # raise it whenever the same sources would give another corpus
HELD_OUT, CALIBRATION, TRAIN = "heldout", "calibration", "train"
QUOTAS: Mapping[str, int] = {HELD_OUT: 180, CALIBRATION: 80, TRAIN: 600}  # texts per class
_SHARES = ((HELD_OUT, 0.30), (CALIBRATION, 0.42), (TRAIN, 1.0))  # of the files, cumulative
_PER_FILE = 12  # so that no single file dominates a class
# Tests say little, and vendored packages belong to another library.
_SKIPPED = frozenset({"tests", "test", "testing", "externals", "thirdparty", "thirdparty_files", "cloudpickle"})
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Example:
    """One text: its class (index into the corpus's classes) and the file it comes from."""

    text: str
    label: int
    source: str


@dataclass(frozen=True)
class Corpus:
    """Examples by split.

    Attributes:
        classes: Names of the classes.
        splits: Examples by split name.
        versions: Installed version of every library.
        fingerprint: sha256 (hex) over the classes and all examples.
    """

    classes: tuple[str, ...]
    splits: Mapping[str, tuple[Example, ...]]
    versions: Mapping[str, str]
    fingerprint: str


def build(
    roots: Mapping[str, Path],
    libraries: Sequence[Library] = LIBRARIES,
    quotas: Mapping[str, int] = QUOTAS,
    progress: Progress | None = None,
) -> dict[str, tuple[Example, ...]]:
    """Read the sources and draw the sample.

    Held-out texts are drawn first, so that they are the same whether training texts are wanted or not.

    Args:
        roots: Folder of the sources by library name.
        libraries: The classes.
        quotas: Texts per class by split; splits that are not named are not built.
        progress: Called with one line per library and split.

    Returns:
        Examples by split. A library with too few texts gives fewer than its quota.
    """
    names, seen = name_pattern(libraries), NearDuplicates()
    files = [_files(roots[library.name]) for library in libraries]
    out: dict[str, tuple[Example, ...]] = {}
    for split, quota in quotas.items():
        found: list[Example] = []
        for label, library in enumerate(libraries):
            mine = [name for name in files[label] if _split_of(f"{library.name}/{name}") == split]
            found += _draw(roots[library.name], mine, label, quota, names, seen)
            if progress is not None:
                progress(f"reading docstrings of {library.name} ({split})")
        out[split] = tuple(found)
    return out


def load(progress: Progress | None = None) -> Corpus:
    """Return the held-out and calibration texts, from the cache when the libraries are unchanged.

    Raises:
        AssetError: A library is missing, or gives no texts for the held-out split.
    """
    versions = {library.name: library.version() for library in LIBRARIES}
    path = _cache_path(versions)
    cached = _read_cache(path)
    if cached is not None:
        return cached
    roots = {library.name: library.root() for library in LIBRARIES}
    quotas = {split: QUOTAS[split] for split in (HELD_OUT, CALIBRATION)}
    splits = build(roots, LIBRARIES, quotas, progress)
    empty = [lib.name for i, lib in enumerate(LIBRARIES) if not any(e.label == i for e in splits[HELD_OUT])]
    if empty:
        raise AssetError(
            f"The installed sources of {', '.join(empty)} hold no docstrings, which the quickstart needs.",
            "Reinstall them as ordinary packages (with their .py files, not run with stripped docstrings).",
        )
    classes = tuple(library.name for library in LIBRARIES)
    corpus = Corpus(classes, splits, versions, fingerprint(classes, splits))
    _write_cache(path, corpus)
    return corpus


def fingerprint(classes: Sequence[str], splits: Mapping[str, Sequence[Example]]) -> str:
    """Return the sha256 (hex) over class names and examples, independent of the order of the splits."""
    rows = [[split, e.label, e.source, e.text] for split in sorted(splits) for e in splits[split]]
    return hashlib.sha256(json.dumps([list(classes), rows]).encode()).hexdigest()


def _files(root: Path) -> list[str]:
    paths = (path.relative_to(root) for path in root.rglob("*.py"))
    return sorted((path.as_posix() for path in paths if not _SKIPPED.intersection(path.parts)), key=_hash)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _split_of(name: str) -> str:
    place = int(_hash(f"split:{name}")[:8], 16) / 2**32
    return next(split for split, end in _SHARES if place < end)


def _draw(
    root: Path, names: Sequence[str], label: int, quota: int, pattern: re.Pattern[str], seen: NearDuplicates
) -> list[Example]:
    found: list[Example] = []
    for name in names:
        for text in _texts(root / name, pattern, seen):
            found.append(Example(text, label, f"{root.name}/{name}"))
            if len(found) == quota:
                return found
    return found


def _texts(path: Path, pattern: re.Pattern[str], seen: NearDuplicates) -> Iterator[str]:
    cleaned = sorted({clean(text, pattern) for text in read_docstrings(path)}, key=_hash)
    taken = 0
    for text in cleaned:
        if taken < _PER_FILE and len(text) > MIN_CHARS and seen.accept(text):
            taken += 1
            yield text


def _cache_path(versions: Mapping[str, str]) -> Path:
    key = _hash(json.dumps([BUILDER_VERSION, sorted(versions.items())]))
    return resources.cache_dir() / "quickstart" / f"corpus-{key[:16]}.json"


def _read_cache(path: Path) -> Corpus | None:
    try:
        data: dict[str, Any] = json.loads(path.read_text("utf-8"))
        splits = {name: tuple(Example(*row) for row in rows) for name, rows in data["splits"].items()}
        corpus = Corpus(tuple(data["classes"]), splits, data["versions"], data["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # absent or damaged: it is built again
    return corpus if fingerprint(corpus.classes, splits) == corpus.fingerprint else None


def _write_cache(path: Path, corpus: Corpus) -> None:
    rows = {name: [[e.text, e.label, e.source] for e in split] for name, split in corpus.splits.items()}
    data = {
        "classes": corpus.classes,
        "versions": dict(corpus.versions),
        "fingerprint": corpus.fingerprint,
        "splits": rows,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            json.dump(data, file)
        os.replace(file.name, path)  # at once, so that a second process never reads half a file
    except OSError:
        return  # a cache that cannot be written costs time, nothing else

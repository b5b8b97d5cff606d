"""The fixed order of held-out examples, in which every prefix is representative, and the split by hash."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import chain

Text = str | tuple[str, str]
_GOLDEN = 0.6180339887498949


def text_key(text: Text) -> str:
    """Return the sha256 (hex) of one example's text."""
    joined = text if isinstance(text, str) else "\x1f".join(text)
    return hashlib.sha256(joined.encode("utf-8", "surrogatepass")).hexdigest()


def text_length(text: Text) -> int:
    """Return the characters of one example."""
    return len(text) if isinstance(text, str) else sum(map(len, text))


def stratified_order(texts: Sequence[Text], groups: Sequence[int]) -> list[int]:
    """Return a permutation of which every prefix has nearly the class shares and lengths of the whole.

    Within a class, examples are sorted by length and visited in van der Corput order; classes are then
    interleaved in proportion to their sizes.

    Args:
        texts: Examples.
        groups: Class of each example (all equal without labels).
    """
    members: dict[int, list[int]] = {}
    for index in sorted(range(len(texts)), key=lambda i: (text_length(texts[i]), text_key(texts[i]), i)):
        members.setdefault(groups[index], []).append(index)
    keyed: list[tuple[float, float, int]] = []
    for turn, group in enumerate(sorted(members)):
        offset = (0.5 + turn * _GOLDEN) % 1.0  # else all classes would start at the same length
        visited = _van_der_corput(len(members[group]), offset)
        keyed += [((i + 0.5) / len(visited), offset, members[group][rank]) for i, rank in enumerate(visited)]
    return [index for _, _, index in sorted(keyed)]


def _van_der_corput(size: int, offset: float) -> list[int]:
    """Return 0 .. size - 1 so that every prefix is spread evenly."""
    bits = max(1, (size - 1).bit_length())
    points = (int(f"{i:0{bits}b}"[::-1], 2) / (1 << bits) for i in range(1 << bits))
    # The points are at most 1 / size apart, so every rank is met (the range is for rounding); the first time counts.
    visited = (int((point + offset) % 1.0 * size) for point in points)
    return list(dict.fromkeys(chain(visited, range(size))))


def hash_slice(texts: Sequence[Text], most: int, share: float) -> tuple[list[int], list[int]]:
    """Split examples into (calibration, held-out) indices by the hash of their text.

    Equal texts never stand on both sides.

    Args:
        texts: Examples.
        most: Aim at no more calibration examples than this.
        share: Aim at no larger share of the distinct examples than this.
    """
    keys = [text_key(text) for text in texts]
    distinct = sorted(set(keys))
    chosen = set(distinct[: min(most, int(share * len(distinct)))])
    calibration = [i for i, key in enumerate(keys) if key in chosen]
    return calibration, [i for i, key in enumerate(keys) if key not in chosen]

"""The tables of a task's scorers: made once per model and data, kept in the store, used by every study."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from autoprune.pruning.counts import count_ids, stopword_table
from autoprune.pruning.lexicon import build_lexicon
from autoprune.pruning.tables import TableSet

if TYPE_CHECKING:
    from autoprune.engine.events import Observer
    from autoprune.engine.session import Session
    from autoprune.pruning.tables import Table
    from autoprune.store.repository import Store

_TEXTS, _BATCH, _TOKENS = 320, 8, 256


class _Maker(NamedTuple):
    """How a table is made.

    Attributes:
        name: Of the table; scorers that read the same one share it.
        version: What of the recipe the stored table must agree with.
        make: Makes it from calibration texts alone, never a text that is scored.
    """

    name: str
    version: str
    make: Callable[[Session, Observer], Table]


def _lexicon(session: Session, observer: Observer) -> Table:
    count = min(_TEXTS, len(session.task.calibration))
    observer.phase("learn the lexicon", count)
    seen = 0

    def advance(texts: int) -> None:
        nonlocal seen
        observer.advance(texts - seen)
        seen = texts

    batches = session.task.calibration_batches(count, _BATCH, _TOKENS)
    return build_lexicon(session.plain_model, batches, progress=advance)


def _counts(session: Session, _observer: Observer) -> Table:
    batches = session.task.calibration_batches(len(session.task.calibration), _BATCH)
    return count_ids(batches, _vocabulary(session))


def _stopwords(session: Session, observer: Observer) -> Table:
    """Return the English list; where the tokenizer knows none of it, the most frequent tokens instead."""
    table = stopword_table(session.task.tokenizer, _vocabulary(session))
    if bool(table["stopword"].any()):
        return table
    counts = _counts(session, observer)["count"]
    return stopword_table(session.task.tokenizer, _vocabulary(session), counts=counts)


def _vocabulary(session: Session) -> int:
    return len(session.plain_model.get_input_embeddings().weight)  # type: ignore[arg-type]


_COUNTS = _Maker("counts", "counts", _counts)
_MAKERS = {
    "lexicon": _Maker("lexicon", f"lexicon:{_TEXTS}x{_TOKENS}", _lexicon),
    "frequency": _COUNTS,
    "surprisal": _COUNTS,
    "stopwords": _Maker("stopwords", "stopwords", _stopwords),
}
MADE = frozenset(_MAKERS)
"""Scorers whose tables a search makes."""


def open_tables(session: Session, store: Store, observer: Observer) -> tuple[TableSet, dict[str, str]]:
    """Return the tables that the space's scorers need, and the table's digest by scorer."""
    tables, table_of = TableSet(), dict[str, str]()
    for scorer in sorted(session.space.scorers() & MADE):
        table_of[scorer] = tables.add(_open(_MAKERS[scorer], session, store, observer))
    return tables, table_of


def _open(maker: _Maker, session: Session, store: Store, observer: Observer) -> Table:
    """Return a table from the store, or make it and keep it there."""
    place = (session.task.model_digest, f"{maker.version}:{session.task.fingerprint}")
    known = store.get_profile(*place)
    data = store.get_table(known[maker.name]) if known else None
    if known and data is not None:
        return TableSet.from_bytes(data)[known[maker.name]]
    tables = TableSet()
    key = tables.add(maker.make(session, observer))
    store.put_table(key, tables.to_bytes())
    store.put_profile(*place, {maker.name: key})
    return tables[key]

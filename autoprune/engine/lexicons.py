"""The lexicon of a task: learned once per model and data, kept in the store, used by every study."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autoprune.pruning.lexicon import build_lexicon
from autoprune.pruning.tables import TableSet

if TYPE_CHECKING:
    from autoprune.engine.events import Observer
    from autoprune.engine.session import Session
    from autoprune.store.repository import Store

_TEXTS, _BATCH, _TOKENS = 320, 8, 256


def open_tables(session: Session, store: Store, observer: Observer) -> tuple[TableSet, dict[str, str]]:
    """Return the tables that the space's scorers need, and the table's digest by scorer.

    Learning uses calibration texts alone, never a text that is scored.
    """
    if "lexicon" not in session.space.scorers():
        return TableSet(), {}
    place = (session.task.model_digest, f"lexicon:{_TEXTS}x{_TOKENS}:{session.task.fingerprint}")
    known = store.get_profile(*place)
    data = store.get_table(known["lexicon"]) if known else None
    if known and data is not None:
        return TableSet.from_bytes(data), {"lexicon": known["lexicon"]}
    return _learn(session, store, observer, place)


def _learn(
    session: Session, store: Store, observer: Observer, place: tuple[str, str]
) -> tuple[TableSet, dict[str, str]]:
    count = min(_TEXTS, len(session.task.calibration))
    observer.phase("learn the lexicon", count)
    tables = TableSet()
    batches = session.task.calibration_batches(count, _BATCH, _TOKENS)
    seen = 0

    def advance(texts: int) -> None:
        nonlocal seen
        observer.advance(texts - seen)
        seen = texts

    key = tables.add(build_lexicon(session.plain_model, batches, progress=advance))
    store.put_table(key, tables.to_bytes())
    store.put_profile(*place, {"lexicon": key})
    return tables, {"lexicon": key}

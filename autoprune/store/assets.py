"""What later studies read: learned tables, cost tables, sensitivity profiles."""

from __future__ import annotations

import hashlib

from sqlalchemy import select

from autoprune.store import tables
from autoprune.store.rows import CostTableRow, Json
from autoprune.store.session import Database


class Assets(Database):
    """The part of the store that keeps what can be used again."""

    def put_table(self, key: str, data: bytes) -> None:
        """Store a table under its content digest (``sha256:...``); the same key is never written twice."""
        with self.transaction() as session:
            self.insert_missing(session, tables.Table, {"key": key, "data": data})

    def get_table(self, key: str) -> bytes | None:
        """Return a table's bytes, or None."""
        with self.reading() as session:
            return session.scalar(select(tables.Table.data).where(tables.Table.key == key))

    def put_cost_table(self, hardware: str, model: str, workload: str, facts: Json) -> None:
        """Add a cost table (a probe's result); digests say where it holds."""
        with self.transaction() as session:
            session.add(
                tables.CostTable(hardware_digest=hardware, model_digest=model, workload_digest=workload, facts=facts)
            )

    def get_cost_table(self, hardware: str, model: str, workload: str) -> Json | None:
        """Return the newest cost table for exactly this place, or None: milliseconds never cross fingerprints."""
        row = self.cost_table_row(hardware, model, workload)
        return None if row is None else row.facts

    def cost_table_row(self, hardware: str, model: str, workload: str) -> CostTableRow | None:
        """Return the same with its date."""
        table = tables.CostTable
        place = (table.hardware_digest == hardware, table.model_digest == model, table.workload_digest == workload)
        with self.reading() as session:
            row = session.scalar(select(table).where(*place).order_by(table.id.desc()).limit(1))
            return None if row is None else CostTableRow(hardware, model, workload, row.facts, row.created_at)

    def put_profile(self, model: str, task: str, facts: Json) -> None:
        """Add a sensitivity profile of a model on a task."""
        with self.transaction() as session:
            session.add(tables.Profile(model_digest=model, task_digest=_fitting(task), facts=facts))

    def get_profile(self, model: str, task: str) -> Json | None:
        """Return the newest profile of a model on a task, or None."""
        table = tables.Profile
        statement = select(table.facts).where(table.model_digest == model, table.task_digest == _fitting(task))
        with self.reading() as session:
            return session.scalar(statement.order_by(table.id.desc()).limit(1))

    def profiles(self) -> list[tuple[str, str, Json]]:
        """Return every profile as (model digest, task digest, facts), oldest first: the policy bank's raw material."""
        table = tables.Profile
        with self.reading() as session:
            rows = session.scalars(select(table).order_by(table.id))
            return [(row.model_digest, row.task_digest, row.facts) for row in rows]


def _fitting(key: str) -> str:
    """Return a key that fits its column: PostgreSQL refuses longer ones, and those that name tables are."""
    if len(key) <= tables.DIGEST_LENGTH:
        return key
    tail = f":{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    return key[: tables.DIGEST_LENGTH - len(tail)] + tail

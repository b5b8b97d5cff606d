"""Policies, evaluations and measurements: rows are added, never changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from autoprune.errors import StoreError
from autoprune.policy import PruningPolicy
from autoprune.store import points, tables
from autoprune.store.rows import (
    EvaluationRow,
    Json,
    MeasurementRow,
    StoredEvaluation,
    StoredMeasurement,
    TrialCost,
)
from autoprune.store.session import CHUNK, Database, begins_with


class Numbers(Database):
    """The part of the store that knows what was measured."""

    def add_policy(self, policy: PruningPolicy) -> str:
        """Store a policy unless it is there already, and return its digest."""
        digest = policy.digest()
        values = {"digest": digest, "described": policy.describe(), "policy": policy.to_dict()}
        with self.transaction() as session:
            self.insert_missing(session, tables.Policy, values)
        return digest

    def get_policy(self, digest: str) -> Json | None:
        """Return a policy as JSON types by its digest or by the only digest that starts so, else None."""
        statement = select(tables.Policy.policy).where(begins_with(tables.Policy.digest, digest)).limit(2)
        with self.reading() as session:
            found = list(session.scalars(statement))
        return found[0] if len(found) == 1 else None

    def add_evaluation(
        self, study: str, trial: int | None, digest: str, row: EvaluationRow, *, created_at: datetime | None = None
    ) -> int:
        """Add a policy's quality, and return the new row's id.

        Args:
            study: Name of the study.
            trial: Optuna's trial number, or None outside a trial.
            digest: The policy's digest.
            row: The figures.
            created_at: When it was found; None: now.

        Raises:
            StudyNotFoundError: There is no such study.
            StoreError: The policy was not added before.
        """
        values = _values(row, "per_example") | {"created_at": created_at or tables.now()}
        with self.transaction() as session:
            study_id = self._place(session, study, digest)
            new = tables.Evaluation(study_id=study_id, trial=trial, policy_digest=digest, **values)
            session.add(new)
            session.flush()
            if row.per_example is not None:
                session.add(tables.EvaluationSamples(evaluation_id=new.id, data=row.per_example))
            if trial is not None and row.complete:
                points.refresh(session, study_id, trial)
            return new.id

    def add_measurement(
        self, study: str, trial: int | None, digest: str, row: MeasurementRow, *, created_at: datetime | None = None
    ) -> int:
        """Add a policy's cost, and return the new row's id.

        Args:
            study: Name of the study.
            trial: Optuna's trial number, or None outside a trial.
            digest: The policy's digest.
            row: The figures.
            created_at: When they were taken; None: now.

        Raises:
            StudyNotFoundError: There is no such study.
            StoreError: The policy was not added before.
        """
        values = _values(row, "samples") | {"created_at": created_at or tables.now()}
        with self.transaction() as session:
            study_id = self._place(session, study, digest)
            if row.latency_ms is None and row.ratio is not None:
                values["latency_ms"] = row.ratio * (points.dense_ms(session, study_id, row) or 0.0) or None
            new = tables.Measurement(study_id=study_id, trial=trial, policy_digest=digest, **values)
            session.add(new)
            session.flush()
            if row.samples is not None:
                session.add(tables.MeasurementSamples(measurement_id=new.id, data=row.samples))
            if trial is not None and row.kind in points.TOLD:
                points.refresh(session, study_id, trial)
            return new.id

    def _place(self, session: Session, study: str, digest: str) -> int:
        study_id = self.study_id(session, study)
        if session.scalar(select(tables.Policy.digest).where(tables.Policy.digest == digest)) is None:
            raise StoreError(f"The policy {digest[:12]} is not in {self.url_masked}.", "Call add_policy first.")
        return study_id

    def evaluations(
        self, study: str | None = None, digest: str | None = None, *, samples: bool = True
    ) -> list[StoredEvaluation]:
        """Return evaluations, oldest first.

        Args:
            study: Of this study; None: of all.
            digest: Of policies whose digest starts so; None: of all.
            samples: Also read the per-example outcomes; False is much cheaper where figures are enough.
        """
        table = tables.Evaluation
        return [
            StoredEvaluation(
                **_row_values(row, StoredEvaluation), study=name, digest=row.policy_digest, per_example=data
            )
            for row, name, data in self._read(table, tables.EvaluationSamples, study, digest, samples)
        ]

    def measurements(
        self, study: str | None = None, digest: str | None = None, *, kind: str | None = None, samples: bool = True
    ) -> list[StoredMeasurement]:
        """Return measurements, oldest first.

        Args:
            study: Of this study; None: of all.
            digest: Of policies whose digest starts so; None: of all.
            kind: ``probe``, ``search``, ``verify`` or ``bench``; None: all.
            samples: Also read the raw latency samples; False is much cheaper where figures are enough.
        """
        return [
            StoredMeasurement(**_row_values(row, StoredMeasurement), study=name, digest=row.policy_digest, samples=data)
            for row, name, data in self._read(tables.Measurement, tables.MeasurementSamples, study, digest, samples)
            if kind is None or row.kind == kind
        ]

    def trial_costs(self, study: str, trials: Sequence[int]) -> dict[int, list[TrialCost]]:
        """Return what a few trials cost, each oldest first, however many the study has.

        Args:
            study: Name of the study.
            trials: Optuna's trial numbers; those that were not measured are left out.
        """
        table, found = tables.Measurement, dict[int, dict[int, TrialCost]]()
        columns = select(table.trial, table.id, table.kind, table.stats, table.flops_ratio, table.end_to_end_ms)
        with self.reading() as session:
            here = table.study_id == self.study_id(session, study)
            for begin in range(0, len(trials), CHUNK):
                wanted = columns.where(here, table.trial.in_(trials[begin : begin + CHUNK]))
                for trial, number, kind, stats, flops, end_to_end in session.execute(wanted):
                    if trial is not None:
                        found.setdefault(trial, {})[number] = TrialCost(kind, stats, flops, end_to_end)
        # Put in order here: the database would carry all their statistics through a sort.
        return {trial: [costs[number] for number in sorted(costs)] for trial, costs in found.items()}

    def _read(
        self, table: Any, blobs: Any, study: str | None, digest: str | None, samples: bool
    ) -> Sequence[tuple[Any, str, bytes | None]]:
        columns = (table, tables.Study.name, *((blobs.data,) if samples else ()))
        statement: Select[Any] = (
            select(*columns).join(tables.Study, tables.Study.id == table.study_id).order_by(table.id)
        )
        if samples:
            statement = statement.outerjoin(blobs)
        if digest is not None:
            statement = statement.where(begins_with(table.policy_digest, digest))
        with self.reading() as session:
            if study is not None:
                statement = statement.where(table.study_id == self.study_id(session, study))
            return [(row[0], row[1], row[2] if samples else None) for row in session.execute(statement)]


def _values(row: EvaluationRow | MeasurementRow, blob: str) -> dict[str, Any]:
    return {f.name: _plain(getattr(row, f.name)) for f in fields(row) if f.name != blob}


def _plain(value: Any) -> Any:
    # numpy scalars are no values for a database driver, and NaN is no score.
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and value != value else value


def _row_values(row: Any, kind: type) -> dict[str, Any]:
    skipped = {"study", "digest", "per_example", "samples"}
    return {f.name: getattr(row, f.name) for f in fields(kind) if f.name not in skipped}

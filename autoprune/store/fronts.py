"""Stored fronts, and fronts for any budget from what is stored."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from autoprune.front.pareto import non_dominated
from autoprune.store import tables
from autoprune.store.rows import FrontRow, Json, StoredFront, TrialPoint
from autoprune.store.session import CHUNK, Database, begins_with
from autoprune.store.studies import study_filters
from autoprune.store.tables import Evaluation, Measurement, Point, Policy, Study


class Fronts(Database):
    """The part of the store that knows fronts."""

    def save_front(
        self,
        study: str,
        kind: str,
        rows: Sequence[FrontRow],
        why: str,
        hypervolume: float | None = None,
        *,
        created_at: datetime | None = None,
    ) -> int:
        """Add a front as a new row set, and return its id; earlier fronts stay.

        Args:
            study: Name of the study.
            kind: ``front`` (exactly ``study.best_trials``) or ``verified``.
            rows: Members, in the order to keep.
            why: Why it was made, for people (``search finished``, ``winners measured again``).
            hypervolume: See ``front.hypervolume``.
            created_at: When it was made; None: now.
        """
        with self.transaction() as session:
            front = tables.Front(
                study_id=self.study_row(session, study).id,
                kind=kind,
                why=why,
                hypervolume=hypervolume,
                created_at=created_at or tables.now(),
            )
            session.add(front)
            session.flush()
            session.add_all(
                tables.FrontMember(
                    front_id=front.id, position=position, trial=row.trial, policy_digest=row.digest,
                    latency_ms=row.latency_ms, score=row.score, tie=row.tie, row=row.row,
                )
                for position, row in enumerate(rows)
            )  # fmt: skip
            return front.id

    def load_front(self, study: str, kind: str) -> StoredFront | None:
        """Return the newest front of a kind, or None."""
        found = self.fronts(study, kind)
        return found[-1] if found else None

    def fronts(self, study: str, kind: str | None = None) -> list[StoredFront]:
        """Return every stored front of a study, oldest first."""
        with self.reading() as session:
            statement = select(tables.Front).where(tables.Front.study_id == self.study_row(session, study).id)
            if kind is not None:
                statement = statement.where(tables.Front.kind == kind)
            out = []
            for front in session.scalars(statement.order_by(tables.Front.id)):
                members = session.scalars(
                    select(tables.FrontMember)
                    .where(tables.FrontMember.front_id == front.id)
                    .order_by(tables.FrontMember.position)
                )
                rows = tuple(FrontRow(m.trial, m.policy_digest, m.latency_ms, m.score, m.tie, m.row) for m in members)
                out.append(
                    StoredFront(front.id, study, front.kind, front.why, front.hypervolume, front.created_at, rows)
                )
            return out

    def front(self, study: str, limit_ms: float | None = None, statistic: str | None = None) -> list[TrialPoint]:
        """Return the front for any budget from stored evaluations alone, fastest first.

        A trial is feasible when the upper end of its latency interval is within the limit.

        Args:
            study: Name of the study.
            limit_ms: The budget in milliseconds of the study's workload; None: no limit.
            statistic: ``p50`` or ``p95``; None: the one the study's budget names.
        """
        with self.reading() as session:
            study_id = self.study_id(session, study)
            wanted = statistic or self._own_statistic(session, study_id)
            # Two steps: the index alone says who is on the front, and only those are read in full.
            statement = select(Point.trial, Point.latency_ms, Point.score).where(
                Point.study_id == study_id, Point.statistic == wanted, Point.candidate
            )
            if limit_ms is not None:
                statement = statement.where(Point.latency_hi_ms <= limit_ms)
            found = session.execute(statement).all()
            chosen = non_dominated([point.latency_ms for point in found], [point.score for point in found])
            members = _read_points(session, study_id, [found[index].trial for index in chosen])
        return sorted(members, key=lambda point: (point.latency_ms, point.trial))

    def _own_statistic(self, session: Session, study_id: int) -> str:
        budget: Json = session.scalar(select(Study.budget).where(Study.id == study_id)) or {}
        return str(budget.get("statistic", "p50"))

    def points(self, study: str) -> list[TrialPoint]:
        """Return every trial of a study that has both values, in trial order."""
        with self.reading() as session:
            statement = point_query().where(Point.study_id == self.study_id(session, study))
            return [TrialPoint(*found) for found in session.execute(statement.order_by(Point.trial))]

    def best(
        self,
        limit_ms: float,
        *,
        statistic: str = "p50",
        model: str | None = None,
        task: str | None = None,
        workload: str | None = None,
        hardware: str | None = None,
        limit: int = 10,
    ) -> list[TrialPoint]:
        """Return the best policies within a budget over all studies that fit, best score first.

        Scores of different tasks and latencies of different workloads or machines do not compare: filter
        by all of them unless that is wanted.

        Args:
            limit_ms: Budget in milliseconds; the upper end of the latency interval must be within it.
            statistic: Of which latency statistic.
            model: Name or start of the digest; likewise ``task``, ``workload``, ``hardware``.
            task: See ``model``.
            workload: See ``model``.
            hardware: See ``model``.
            limit: At most so many.
        """
        statement = (
            select(Point.study_id, Point.trial)
            .join(Study, Study.id == Point.study_id)
            .where(Point.candidate, Point.statistic == statistic, Point.latency_hi_ms <= limit_ms)
            .where(*study_filters(model, task, workload, hardware))
            .order_by(Point.score.desc(), Point.latency_ms, Point.study_id, Point.trial)
            .limit(limit)
        )
        with self.reading() as session:
            places: dict[int, list[int]] = {}
            for study_id, trial in session.execute(statement):
                places.setdefault(study_id, []).append(trial)
            members = [point for place in places.items() for point in _read_points(session, *place)]
        return sorted(members, key=lambda point: (-point.score, point.latency_ms, point.study, point.trial))

    def history(self, digest: str) -> list[Json]:
        """Return everything known about a policy, over all studies, oldest first, one row per number taken.

        Args:
            digest: The policy's digest or its start.
        """
        return sorted((*self._quality(digest), *self._cost(digest)), key=lambda row: str(row["created_at"]))

    def _quality(self, digest: str) -> list[Json]:
        return self._rows(
            Evaluation,
            digest,
            "evaluation",
            ("n_examples", "complete", "score", "drop", "drop_lo", "drop_hi", "agreement", "kl"),
        )

    def _cost(self, digest: str) -> list[Json]:
        return self._rows(
            Measurement,
            digest,
            "measurement",
            (
                "kind",
                "statistic",
                "latency_ms",
                "ratio",
                "ratio_lo",
                "ratio_hi",
                "flops_ratio",
                "end_to_end_ms",
                "noisy",
            ),
        )

    def _rows(self, table: Any, digest: str, what: str, columns: tuple[str, ...]) -> list[Json]:
        statement = (
            select(Study.name, tables.Model.name, tables.Task.name, tables.Hardware.described, table)
            .join(Study, Study.id == table.study_id)
            .join(tables.Task).join(tables.Model).join(tables.Hardware)
            .where(begins_with(table.policy_digest, digest))
            .order_by(table.id)
        )  # fmt: skip
        with self.reading() as session:
            return [
                {"what": what, "created_at": row.created_at.isoformat(), "study": study, "model": model, "task": task,
                 "hardware": hardware, "trial": row.trial, "policy": row.policy_digest}
                | {name: getattr(row, name) for name in columns}
                for study, model, task, hardware, row in session.execute(statement)
            ]  # fmt: skip


def point_query() -> Select[*tuple[Any, ...]]:
    """Return the query for points; its columns are the fields of ``TrialPoint``, in their order.

    Columns and not whole rows: the statistics of a measurement would have to be parsed for nothing.
    """
    return (
        select(
            Study.name, Point.trial, Point.policy_digest, Policy.policy, Policy.described,
            Point.latency_ms, Point.latency_hi_ms, Point.score, Point.statistic,
            Measurement.ratio, Measurement.ratio_lo, Measurement.ratio_hi,
            Evaluation.drop, Evaluation.drop_lo, Evaluation.drop_hi, Evaluation.agreement, Evaluation.kl,
            Measurement.flops_ratio, Measurement.end_to_end_ms,
        )
        .select_from(Point)
        .join(Study, Study.id == Point.study_id)
        .join(Policy, Policy.digest == Point.policy_digest)
        .join(Evaluation, Evaluation.id == Point.evaluation_id)
        .join(Measurement, Measurement.id == Point.measurement_id)
    )  # fmt: skip


def _read_points(session: Session, study_id: int, trials: Sequence[int]) -> list[TrialPoint]:
    """Return these trials' points, in no order."""
    out = []
    for begin in range(0, len(trials), CHUNK):
        wanted = (Point.study_id == study_id, Point.trial.in_(trials[begin : begin + CHUNK]))
        out += [TrialPoint(*found) for found in session.execute(point_query().where(*wanted))]
    return out

"""Studies: create, look up, list, finish, delete."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, delete, func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from autoprune.errors import StoreError
from autoprune.store import tables
from autoprune.store.rows import DIGESTS, Json, StudyRecord, StudySummary
from autoprune.store.session import Database, described, digest_of


class Studies(Database):
    """The part of the store that knows studies."""

    def create_study(self, record: StudyRecord) -> None:
        """Store a study together with its task, model, workload and hardware, in one transaction.

        Raises:
            StoreError: A study of that name is there already.
        """
        try:
            with self.transaction() as session:
                digests = self._store_context(session, record)
                session.add(
                    tables.Study(
                        name=record.name, search_key=record.search_key, status=record.status, budget=record.budget,
                        config=_without_address(record.config), versions=record.versions, result=record.result,
                        created_at=record.created_at or tables.now(), updated_at=record.updated_at or tables.now(),
                        **digests,
                    )
                )  # fmt: skip
                session.flush()
        except IntegrityError:
            raise StoreError(
                f"There is a study {record.name!r} in {self.url_masked} already.",
                "Choose another name with --study, or use --new.",
            ) from None

    def _store_context(self, session: Session, record: StudyRecord) -> dict[str, str]:
        task, model, workload, hardware = (
            digest_of(d) for d in (record.task, record.model, record.workload, record.hardware)
        )
        rows: tuple[tuple[type[tables.Base], dict[str, Any]], ...] = (
            (tables.Task, {"digest": task, "name": described(record.task, "name"), "facts": record.task}),
            (
                tables.Model,
                {
                    "digest": model,
                    "name": described(record.model),
                    "family": record.model.get("family"),
                    "facts": record.model,
                },
            ),
            (tables.Workload, {"digest": workload, "described": described(record.workload), "facts": record.workload}),
            (tables.Hardware, {"digest": hardware, "described": described(record.hardware), "facts": record.hardware}),
        )
        for table, values in rows:
            self.insert_missing(session, table, values)
        return {"task_digest": task, "model_digest": model, "workload_digest": workload, "hardware_digest": hardware}

    def get_study(self, name: str) -> StudyRecord | None:
        """Return a study, or None if there is none of that name."""
        statement = (
            select(tables.Study, tables.Task, tables.Model, tables.Workload, tables.Hardware)
            .join(tables.Task).join(tables.Model).join(tables.Workload).join(tables.Hardware)
            .where(tables.Study.name == name)
        )  # fmt: skip
        with self.reading() as session:
            found = session.execute(statement).first()
            if found is None:
                return None
            study, task, model, workload, hardware = found
            return StudyRecord(
                name=study.name, search_key=study.search_key, task=task.facts, model=model.facts,
                workload=workload.facts, hardware=hardware.facts, budget=study.budget,
                config=_without_address(study.config), versions=study.versions, status=study.status,
                result=study.result, created_at=study.created_at, updated_at=study.updated_at,
            )  # fmt: skip

    def require_study(self, name: str) -> StudyRecord:
        """Return the study of exactly this name.

        Raises:
            StudyNotFoundError: There is none; the hint names the nearest.
        """
        record = self.get_study(name)
        if record is None:
            with self.reading() as session:
                raise self.no_such_study(name, list(session.scalars(select(tables.Study.name))))
        return record

    def find_study(self, name: str) -> StudyRecord:
        """Return a study by its name or by the only name that starts so.

        Raises:
            StudyNotFoundError: None fits; the hint names the nearest.
            AmbiguousStudyError: Several fit; the message names them.
        """
        with self.reading() as session:
            names = list(session.scalars(select(tables.Study.name).order_by(tables.Study.name)))
        fitting = [name] if name in names else [known for known in names if name and known.startswith(name)]
        if len(fitting) > 1:
            raise self.ambiguous(name, fitting)
        record = self.get_study(fitting[0]) if fitting else None
        if record is None:
            raise self.no_such_study(name, names)
        return record

    def find_measured_study(self, name: str) -> StudyRecord:
        """Return a study as ``find_study`` does, if dense was measured in it: without that it has no figures.

        Raises:
            StudyNotFoundError: None or several fit.
            StoreError: A driver was killed right after it made the study.
        """
        record = self.find_study(name)
        measured = (
            select(tables.Measurement.id)
            .join(tables.Study)
            .where(tables.Study.name == record.name, tables.Measurement.trial == 0, tables.Measurement.kind == "probe")
        )
        with self.reading() as session:
            if session.scalar(measured.limit(1)) is None:
                raise self.unmeasured(record.name)
        return record

    def find_by_search_key(self, search_key: str) -> list[StudyRecord]:
        """Return the studies of one search, newest first (``--new`` makes several)."""
        statement = (
            select(tables.Study.name).where(tables.Study.search_key == search_key).order_by(tables.Study.id.desc())
        )
        with self.reading() as session:
            names = list(session.scalars(statement))
        return [record for name in names if (record := self.get_study(name)) is not None]

    def list_studies(
        self,
        *,
        model: str | None = None,
        task: str | None = None,
        workload: str | None = None,
        hardware: str | None = None,
        status: str | None = None,
    ) -> list[StudySummary]:
        """Return the studies that fit all filters, newest first.

        Args:
            model: Name or start of the digest.
            task: Name or start of the digest.
            workload: Start of the digest, or the description.
            hardware: Start of the digest, or the description.
            status: Exact status.
        """
        points = select(tables.Point.study_id, func.count().label("n")).group_by(tables.Point.study_id).subquery()
        shown = (tables.Model.name, tables.Task.name, tables.Workload.described, tables.Hardware.described)
        statement = (
            select(tables.Study, *shown, points.c.n)
            .join(tables.Task).join(tables.Model).join(tables.Workload).join(tables.Hardware)
            .outerjoin(points, points.c.study_id == tables.Study.id)
            .where(*study_filters(model, task, workload, hardware, status))
            .order_by(tables.Study.created_at.desc(), tables.Study.id.desc())
        )  # fmt: skip
        with self.reading() as session:
            return [_summary(*row) for row in session.execute(statement)]

    def set_result(self, study: str, status: str, result: Json | None) -> None:
        """Store the status and the printed result of a study.

        Raises:
            StudyNotFoundError: There is none of that name.
        """
        with self.transaction() as session:
            row = self.study_row(session, study)
            row.status, row.updated_at = status, tables.now()
            if result is not None:
                row.result = result

    def _delete_rows(self, study: str) -> None:
        with self.transaction() as session:
            row = self.study_row(session, study)
            session.execute(delete(tables.Point).where(tables.Point.study_id == row.id))
            session.execute(delete(tables.Study).where(tables.Study.id == row.id))


def _without_address(config: Json) -> Json:
    """Return a study's options without the database's address: it may hold a password, and options are shown.

    Studies of early versions hold it, so it is taken out of what is read as well.
    """
    options = config.get("options")
    if not isinstance(options, dict):
        return config
    return {**config, "options": {name: value for name, value in options.items() if name != "db"}}


def study_filters(
    model: str | None, task: str | None, workload: str | None, hardware: str | None, status: str | None = None
) -> list[ColumnElement[bool]]:
    """Return the conditions on studies; see ``list_studies``."""
    out: list[ColumnElement[bool]] = []
    places = (
        (model, tables.Study.model_digest, tables.Model.digest, tables.Model.name),
        (task, tables.Study.task_digest, tables.Task.digest, tables.Task.name),
        (workload, tables.Study.workload_digest, tables.Workload.digest, tables.Workload.described),
        (hardware, tables.Study.hardware_digest, tables.Hardware.digest, tables.Hardware.described),
    )
    for wanted, column, digest, name in places:
        if wanted is not None:
            fits = or_(name == wanted, digest.startswith(wanted, autoescape=True))
            out.append(column.in_(select(digest).where(fits)))
    if status is not None:
        out.append(tables.Study.status == status)
    return out


def _summary(study: tables.Study, model: str, task: str, workload: str, hardware: str, n: int | None) -> StudySummary:
    best = (study.result or {}).get("best") or {}
    latency = best.get("latency_ms") or {}
    statistic = str(study.budget.get("statistic", "p50"))
    return StudySummary(
        name=study.name, status=study.status, model=model, task=task, workload=workload, hardware=hardware,
        budget=str(study.budget.get("text", "")), n_points=n or 0,
        best_latency_ms=latency.get(statistic) if isinstance(latency, dict) else latency, best_score=best.get("score"),
        created_at=study.created_at, updated_at=study.updated_at,
        digests={name: getattr(study, f"{name}_digest") for name in DIGESTS},
    )  # fmt: skip

"""The tables, all ``ap_*``: what was found, on what, with which versions. Rows are added, never overwritten.

Large samples stand in tables of their own, so that queries over a million rows do not read them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Json = dict[str, Any]
DIGEST_LENGTH = 80
_DIGEST = String(DIGEST_LENGTH)

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}


class Utc(TypeDecorator[datetime]):
    """A moment in UTC; SQLite would otherwise lose the time zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn any aware moment into UTC; naive ones are taken as UTC."""
        return value.astimezone(UTC) if value is not None and value.tzinfo else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the time zone back."""
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


def now() -> datetime:
    """Return this moment in UTC."""
    return datetime.now(UTC)


class Base(DeclarativeBase):
    """Root of the typed models."""

    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map: ClassVar[dict[Any, Any]] = {Json: JSON(), datetime: Utc(), str: Text()}


class Hardware(Base):
    """One machine, by its fingerprint."""

    __tablename__ = "ap_hardware"
    digest: Mapped[str] = mapped_column(_DIGEST, primary_key=True)
    described: Mapped[str]
    facts: Mapped[Json]
    created_at: Mapped[datetime] = mapped_column(default=now)


class Model(Base):
    """One model: weights and configuration, by digest."""

    __tablename__ = "ap_model"
    digest: Mapped[str] = mapped_column(_DIGEST, primary_key=True)
    name: Mapped[str] = mapped_column(index=True)
    family: Mapped[str | None]
    facts: Mapped[Json]
    created_at: Mapped[datetime] = mapped_column(default=now)


class Task(Base):
    """Model + data + metric."""

    __tablename__ = "ap_task"
    digest: Mapped[str] = mapped_column(_DIGEST, primary_key=True)
    name: Mapped[str] = mapped_column(index=True)
    facts: Mapped[Json]
    created_at: Mapped[datetime] = mapped_column(default=now)


class Workload(Base):
    """What is timed."""

    __tablename__ = "ap_workload"
    digest: Mapped[str] = mapped_column(_DIGEST, primary_key=True)
    described: Mapped[str]
    facts: Mapped[Json]
    created_at: Mapped[datetime] = mapped_column(default=now)


class Study(Base):
    """One search; linked to Optuna's study by name."""

    __tablename__ = "ap_study"
    __table_args__ = (Index("ix_ap_study_model_workload", "model_digest", "workload_digest"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(255), unique=True)
    search_key: Mapped[str] = mapped_column(_DIGEST, index=True)
    status: Mapped[str] = mapped_column(String(32))
    task_digest: Mapped[str] = mapped_column(ForeignKey("ap_task.digest"))
    model_digest: Mapped[str] = mapped_column(ForeignKey("ap_model.digest"))
    workload_digest: Mapped[str] = mapped_column(ForeignKey("ap_workload.digest"))
    hardware_digest: Mapped[str] = mapped_column(ForeignKey("ap_hardware.digest"))
    budget: Mapped[Json]
    config: Mapped[Json]
    versions: Mapped[Json]
    result: Mapped[Json | None] = mapped_column(JSON(none_as_null=True))
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now)


class Policy(Base):
    """One policy, by digest."""

    __tablename__ = "ap_policy"
    digest: Mapped[str] = mapped_column(_DIGEST, primary_key=True)
    described: Mapped[str]
    policy: Mapped[Json]
    created_at: Mapped[datetime] = mapped_column(default=now)


class Evaluation(Base):
    """A policy's measured quality on a study's task."""

    __tablename__ = "ap_evaluation"
    __table_args__ = (Index("ix_ap_evaluation_study_trial", "study_id", "trial"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("ap_study.id", ondelete="CASCADE"))
    trial: Mapped[int | None]
    policy_digest: Mapped[str] = mapped_column(ForeignKey("ap_policy.digest"), index=True)
    n_examples: Mapped[int]
    complete: Mapped[bool]
    score: Mapped[float | None]
    drop: Mapped[float | None] = mapped_column("score_drop")  # DROP is a word of SQL
    drop_lo: Mapped[float | None]
    drop_hi: Mapped[float | None]
    agreement: Mapped[float | None]
    kl: Mapped[float | None]
    seconds: Mapped[float | None]
    created_at: Mapped[datetime] = mapped_column(default=now)


class EvaluationSamples(Base):
    """Per-example outcomes of an evaluation."""

    __tablename__ = "ap_evaluation_samples"
    evaluation_id: Mapped[int] = mapped_column(ForeignKey("ap_evaluation.id", ondelete="CASCADE"), primary_key=True)
    data: Mapped[bytes] = mapped_column(LargeBinary)


class Measurement(Base):
    """A policy's measured cost on a study's workload and hardware."""

    __tablename__ = "ap_measurement"
    __table_args__ = (Index("ix_ap_measurement_study_trial", "study_id", "trial"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("ap_study.id", ondelete="CASCADE"))
    trial: Mapped[int | None]
    policy_digest: Mapped[str] = mapped_column(ForeignKey("ap_policy.digest"), index=True)
    kind: Mapped[str] = mapped_column(String(16))
    statistic: Mapped[str] = mapped_column(String(8))
    latency_ms: Mapped[float | None]
    ratio: Mapped[float | None]
    ratio_lo: Mapped[float | None]
    ratio_hi: Mapped[float | None]
    stats: Mapped[Json]
    flops: Mapped[float | None]
    flops_ratio: Mapped[float | None]
    memory: Mapped[float | None]
    end_to_end_ms: Mapped[float | None]
    noisy: Mapped[bool]
    extra: Mapped[Json]
    created_at: Mapped[datetime] = mapped_column(default=now)


class MeasurementSamples(Base):
    """Raw latency samples of a measurement."""

    __tablename__ = "ap_measurement_samples"
    measurement_id: Mapped[int] = mapped_column(ForeignKey("ap_measurement.id", ondelete="CASCADE"), primary_key=True)
    data: Mapped[bytes] = mapped_column(LargeBinary)


class Point(Base):
    """A trial that has both a complete evaluation and a search measurement: what fronts are made of.

    ``candidate`` marks the points that no other point of the study beats in latency, in the upper end of
    its interval **and** in score: no other point can be on the front of any budget, so a front query
    reads these few rows alone. It is an index kept by hand, derived from the rows beside it.
    """

    __tablename__ = "ap_point"
    __table_args__ = (
        Index(
            "ix_ap_point_candidate",
            "study_id",
            "statistic",
            "latency_ms",
            "latency_hi_ms",
            "score",
            "trial",
            # As SQLAlchemy writes it in queries: SQLite uses a partial index only for the very same condition.
            sqlite_where=text("candidate = 1"),
            postgresql_where=text("candidate"),
        ),
    )
    study_id: Mapped[int] = mapped_column(ForeignKey("ap_study.id", ondelete="CASCADE"), primary_key=True)
    trial: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    statistic: Mapped[str] = mapped_column(String(8))
    policy_digest: Mapped[str] = mapped_column(ForeignKey("ap_policy.digest"), index=True)
    # No foreign keys here: they would cost an index each, or a scan for every evaluation that is deleted.
    evaluation_id: Mapped[int]
    measurement_id: Mapped[int]
    latency_ms: Mapped[float]
    latency_hi_ms: Mapped[float]
    score: Mapped[float]
    candidate: Mapped[bool]


class Front(Base):
    """One front, as a set of rows: when and why."""

    __tablename__ = "ap_front"
    __table_args__ = (Index("ix_ap_front_study_kind", "study_id", "kind"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("ap_study.id", ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(String(16))
    why: Mapped[str]
    hypervolume: Mapped[float | None]
    created_at: Mapped[datetime] = mapped_column(default=now)


class FrontMember(Base):
    """One policy of a stored front."""

    __tablename__ = "ap_front_member"
    front_id: Mapped[int] = mapped_column(ForeignKey("ap_front.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    trial: Mapped[int | None]
    policy_digest: Mapped[str] = mapped_column(ForeignKey("ap_policy.digest"), index=True)
    latency_ms: Mapped[float | None]
    score: Mapped[float | None]
    tie: Mapped[bool]
    row: Mapped[Json]


class CostTable(Base):
    """Per-layer latency against token count; newest row counts."""

    __tablename__ = "ap_cost_table"
    __table_args__ = (Index("ix_ap_cost_table_place", "hardware_digest", "model_digest", "workload_digest"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    hardware_digest: Mapped[str] = mapped_column(_DIGEST)
    model_digest: Mapped[str] = mapped_column(_DIGEST)
    workload_digest: Mapped[str] = mapped_column(_DIGEST)
    facts: Mapped[Json]
    created_at: Mapped[datetime] = mapped_column(default=now)


class Profile(Base):
    """Harm against keep ratio for one model and task; newest row counts."""

    __tablename__ = "ap_profile"
    __table_args__ = (Index("ix_ap_profile_place", "model_digest", "task_digest"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    model_digest: Mapped[str] = mapped_column(_DIGEST)
    task_digest: Mapped[str] = mapped_column(_DIGEST)
    facts: Mapped[Json]
    created_at: Mapped[datetime] = mapped_column(default=now)


class Table(Base):
    """A lexicon or other learned part, content addressed."""

    __tablename__ = "ap_table"
    key: Mapped[str] = mapped_column(_DIGEST, primary_key=True)
    data: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(default=now)

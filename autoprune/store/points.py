"""Points: the derived rows that make front queries cheap at a million evaluations.

A point joins the first complete evaluation and the first search measurement of a trial: what was told.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, exists, or_, select, update
from sqlalchemy.orm import Session

from autoprune.store.rows import MeasurementRow
from autoprune.store.tables import Evaluation, Measurement, Point

TOLD = ("search", "probe")  # the probe's measurement of trial 0 is dense as it was told


def dense_ms(session: Session, study_id: int, row: MeasurementRow) -> float | None:
    """Return the study's dense latency: of its first probe, else of this measurement, in milliseconds."""
    statement = (
        select(Measurement.stats)
        .where(Measurement.study_id == study_id, Measurement.kind == "probe")
        .order_by(Measurement.id)
        .limit(1)
    )
    for stats in (session.scalar(statement), row.stats):
        value = ((stats or {}).get("dense") or {}).get(row.statistic)
        if value is not None:
            return float(value)
    return None


def refresh(session: Session, study_id: int, trial: int) -> None:
    """Make the trial's point as soon as both halves are there; a point never changes afterwards."""
    if session.get(Point, (study_id, trial)) is not None:
        return
    evaluation = session.scalar(
        select(Evaluation)
        .where(
            Evaluation.study_id == study_id,
            Evaluation.trial == trial,
            Evaluation.complete,
            Evaluation.score.is_not(None),
        )
        .order_by(Evaluation.id)
        .limit(1)
    )
    measurement = session.scalar(
        select(Measurement)
        .where(
            Measurement.study_id == study_id,
            Measurement.trial == trial,
            Measurement.kind.in_(TOLD),
            Measurement.latency_ms.is_not(None),
        )
        .order_by(Measurement.id)
        .limit(1)
    )
    if evaluation is not None and measurement is not None:
        add(session, _join(evaluation, measurement))


def _join(evaluation: Evaluation, measurement: Measurement) -> Point:
    latency = measurement.latency_ms or 0.0
    ratio, upper = measurement.ratio, measurement.ratio_hi
    return Point(
        study_id=measurement.study_id,
        trial=measurement.trial,
        statistic=measurement.statistic,
        policy_digest=measurement.policy_digest,
        evaluation_id=evaluation.id,
        measurement_id=measurement.id,
        latency_ms=latency,
        latency_hi_ms=latency * upper / ratio if ratio and upper is not None else latency,
        score=evaluation.score,
        candidate=True,
    )


def add(session: Session, point: Point) -> None:
    """Add a point and keep the candidate flags right."""
    here = and_(Point.study_id == point.study_id, Point.statistic == point.statistic, Point.candidate)
    beaten = session.scalar(select(exists().where(here, *_beats(point, better=True))))
    if beaten:
        point.candidate = False
    else:
        session.execute(
            update(Point).where(here, *_beats(point, better=False)).values(candidate=False),
            execution_options={"synchronize_session": False},
        )
    session.add(point)
    session.flush()


def _beats(point: Point, *, better: bool) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions for points that beat this one, or that it beats.

    To beat is to dominate in (latency, score) and to be allowed by every budget that allows the other.
    Points equal in both values do not beat each other, as with Optuna.
    """
    if better:
        return (
            Point.latency_ms <= point.latency_ms,
            Point.latency_hi_ms <= point.latency_hi_ms,
            Point.score >= point.score,
            or_(Point.latency_ms < point.latency_ms, Point.score > point.score),
        )
    return (
        Point.latency_ms >= point.latency_ms,
        Point.latency_hi_ms >= point.latency_hi_ms,
        Point.score <= point.score,
        or_(Point.latency_ms > point.latency_ms, Point.score < point.score),
    )

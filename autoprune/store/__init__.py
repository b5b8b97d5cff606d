"""The store: the only room that knows the database."""

from autoprune.store.repository import Store
from autoprune.store.rows import (
    CostTableRow,
    EvaluationRow,
    FrontRow,
    MeasurementRow,
    StoredEvaluation,
    StoredFront,
    StoredMeasurement,
    StudyRecord,
    StudySummary,
    TrialPoint,
)

__all__ = [
    "CostTableRow",
    "EvaluationRow",
    "FrontRow",
    "MeasurementRow",
    "Store",
    "StoredEvaluation",
    "StoredFront",
    "StoredMeasurement",
    "StudyRecord",
    "StudySummary",
    "TrialPoint",
]

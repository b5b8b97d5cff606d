"""Everything a report shows of one study, read from the store once. Absent data stays absent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from autoprune.errors import MeasurementError, PolicyError
from autoprune.front.hypervolume import hypervolume
from autoprune.latency.timing import PairedTiming
from autoprune.policy import PruningPolicy
from autoprune.report.words import pick

if TYPE_CHECKING:
    from autoprune.store.repository import Store
    from autoprune.store.rows import StoredFront, StoredMeasurement, StudyRecord, TrialPoint

Json = dict[str, Any]
_PROTECTED = 2  # [CLS] and [SEP]: for the share of tokens per layer only
_SAMPLES = 4000  # per side in a report: enough for a picture


@dataclass(frozen=True)
class CoursePoint:
    """The best feasible score after so many evaluations.

    Attributes:
        evaluations: Trials with both values so far, dense included.
        seconds: Since the study was made.
        score: Best score within the budget so far, or None.
    """

    evaluations: int
    seconds: float
    score: float | None


@dataclass(frozen=True)
class TokenExample:
    """A text and at which stage each token left.

    Attributes:
        tokens: The text's tokens.
        left_at: Per token the stage (0-based) at which it left, or None if it stayed.
        stages: Names of the stages.
    """

    tokens: Sequence[str]
    left_at: Sequence[int | None]
    stages: Sequence[str] = ()


@dataclass(frozen=True)
class ReportData:
    """What a report shows.

    Attributes:
        study: The study's record.
        result: The printed JSON; empty for an unfinished search.
        statistic: ``p50`` or ``p95``.
        limit_ms: The budget, or None if it is unknown.
        dense_ms: Dense latency of the statistic, or None.
        dense_score: Dense score, or None.
        points: Every trial with both values.
        front: The front within the budget, fastest first.
        verified: The newest verified front, or None.
        course: Best score against evaluations and seconds.
        predicted: (predicted ms, measured ms) per trial that was predicted.
        dense_samples: Latency samples of dense in ms, beside those of the best policy.
        best_samples: The best policy's samples.
        sweep: The probe's points: tokens, ms, ratio, ratio_ci.
        cost_table: The probe's cost table as JSON types, or None.
        floor_ms: The lowest latency any policy reaches, or None.
        notes: The probe's remarks.
        keep: Per front policy its trial and the share of tokens entering each layer, the expected one where
            thresholds and masses decide; left out if nobody noted that.
        hypervolume: Of the stored front relative to dense, else of all points; or None.
        examples: Texts and which of their tokens go.
        no_examples: Why there are none.
    """

    study: StudyRecord
    result: Json
    statistic: str = "p50"
    limit_ms: float | None = None
    dense_ms: float | None = None
    dense_score: float | None = None
    points: Sequence[TrialPoint] = ()
    front: Sequence[TrialPoint] = ()
    verified: StoredFront | None = None
    course: Sequence[CoursePoint] = ()
    predicted: Sequence[tuple[float, float]] = ()
    dense_samples: Sequence[float] = ()
    best_samples: Sequence[float] = ()
    sweep: Sequence[Json] = ()
    cost_table: Json | None = None
    floor_ms: float | None = None
    notes: Sequence[str] = ()
    keep: Sequence[tuple[int, Sequence[float]]] = ()
    hypervolume: float | None = None
    examples: Sequence[TokenExample] = field(default=())
    no_examples: str = ""

    @property
    def best(self) -> Json | None:
        """The promised policy's row, or None."""
        return self.result.get("best")

    @property
    def prediction_error(self) -> float | None:
        """Median absolute error of the predicted latency, as a share; None without predictions."""
        errors = [abs(guess - truth) / truth for guess, truth in self.predicted if truth > 0]
        return median(errors) if errors else None


def gather(store: Store, study: str, examples: Sequence[TokenExample] = (), no_examples: str = "") -> ReportData:
    """Read a study for a report.

    Args:
        store: The open database.
        study: Name of the study, or its only beginning.
        examples: Texts and which of their tokens go, see ``tokens.token_examples``.
        no_examples: Why there are none.

    Raises:
        StudyNotFoundError: There is none of that name.
    """
    record = store.find_study(study)
    result = record.result or {}
    statistic = str(record.budget.get("statistic", "p50"))
    limit = pick(result, "budget", "limit_ms") or record.budget.get("limit_ms")
    points = store.points(record.name)
    dense = next((point for point in points if point.trial == 0), None)
    dense_ms = pick(result, "dense", "latency_ms", statistic) or (dense.latency_ms if dense else None)
    measurements = store.measurements(record.name, samples=False)
    front, stored = store.front(record.name, limit, statistic), store.load_front(record.name, "front")
    probe = record.config.get("probe") or {}
    dense_samples, best_samples = _samples(store, record.name, result)
    return ReportData(
        study=record,
        result=result,
        statistic=statistic,
        limit_ms=limit,
        dense_ms=dense_ms,
        dense_score=pick(result, "dense", "score") or (dense.score if dense else None),
        points=points,
        front=front,
        verified=store.load_front(record.name, "verified"),
        course=_course(record, points, measurements, limit),
        predicted=_predicted(measurements),
        dense_samples=dense_samples,
        best_samples=best_samples,
        sweep=probe.get("sweep") or (),
        cost_table=probe.get("cost_table"),
        floor_ms=pick(result, "floor_ms") or probe.get("floor_ms"),
        notes=probe.get("notes") or (),
        keep=_keep(record, front, measurements),
        hypervolume=stored.hypervolume if stored and stored.hypervolume is not None else _volume(points, dense_ms),
        examples=examples,
        no_examples=no_examples,
    )


def _course(
    record: StudyRecord, points: Sequence[TrialPoint], measurements: Sequence[StoredMeasurement], limit: float | None
) -> list[CoursePoint]:
    told = {row.trial: row.created_at for row in reversed(measurements) if row.kind in ("search", "probe")}
    best: float | None = None
    out = []
    for count, point in enumerate(points, 1):
        if (limit is None or point.latency_hi_ms <= limit) and (best is None or point.score > best):
            best = point.score
        at, begun = told.get(point.trial), record.created_at
        seconds = (at - begun).total_seconds() if at and begun else 0.0
        out.append(CoursePoint(count, max(0.0, seconds), best))
    return out


def _predicted(measurements: Sequence[StoredMeasurement]) -> list[tuple[float, float]]:
    return [
        (float(row.extra["predicted_ms"]), row.latency_ms)
        for row in measurements
        if row.kind == "search" and row.latency_ms and row.extra.get("predicted_ms") is not None
    ]


def packed_samples(store: Store, study: str, result: Json) -> bytes | None:
    """Return the promised policy's newest raw samples, dense beside it: of the verification, if there was one."""
    trial, digest = pick(result, "best", "trial"), result_digest(result)
    if trial is None or digest is None:
        return None
    packed = [row.samples for row in store.measurements(study, digest) if row.trial == trial]
    return next((samples for samples in reversed(packed) if samples and _unpacked(samples) is not None), None)


def _unpacked(samples: bytes) -> PairedTiming | None:
    try:
        return PairedTiming.from_bytes(samples)
    except MeasurementError:
        return None


def _samples(store: Store, study: str, result: Json) -> tuple[list[float], list[float]]:
    timing = _unpacked(packed_samples(store, study, result) or b"")
    return ([], []) if timing is None else (_thin(timing.dense_ns), _thin(timing.policy_ns))


def result_digest(result: Json) -> str | None:
    """Return the digest of the promised policy, or None."""
    policy = pick(result, "best", "policy")
    try:
        return None if policy is None else PruningPolicy.from_dict(policy).digest()
    except PolicyError:
        return None


def _thin(samples_ns: Any) -> list[float]:
    flat = np.asarray(samples_ns).ravel() / 1e6
    step = max(1, -(-len(flat) // _SAMPLES))
    return [round(float(value), 4) for value in flat[::step]]


def _keep(
    record: StudyRecord, front: Sequence[TrialPoint], measurements: Sequence[StoredMeasurement]
) -> list[tuple[int, list[float]]]:
    layers = int(record.model.get("n_layers") or 0)
    lengths = record.workload.get("lengths") or []
    if not layers or not lengths:
        return []
    tokens = int(median(lengths))
    noted = {row.trial: row.extra.get("keeps") for row in measurements if row.kind == "search"}
    out = []
    for point in front:
        policy = _by_keep(PruningPolicy.from_dict(point.policy), noted.get(point.trial))
        if policy is not None:
            counts = policy.layer_counts(tokens, layers, min(_PROTECTED, tokens))
            out.append((point.trial, [count / tokens for count in counts]))
    return out


def _by_keep(policy: PruningPolicy, keeps: Sequence[float] | None) -> PruningPolicy | None:
    """Return the policy with the shares that its stages were expected to leave, or None if they are not known."""
    if all(stage.selector == "keep" for stage in policy.stages):
        return policy
    if keeps is None or len(keeps) != len(policy.stages):
        return None
    pairs = zip(policy.stages, keeps, strict=True)
    return replace(policy, stages=tuple(replace(s, keep=k, threshold=None, mass=None) for s, k in pairs))


def _volume(points: Sequence[TrialPoint], dense_ms: float | None) -> float | None:
    if not points or not dense_ms:
        return None
    shares = [point.latency_ms / dense_ms for point in points]
    return hypervolume(shares, [point.score for point in points], latency_reference=1.0)

"""Plain dataclasses that go into the store and come out of it; no SQLAlchemy here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal

Kind = Literal["probe", "search", "verify", "bench"]
FrontKind = Literal["front", "verified"]
Json = dict[str, Any]
DIGESTS = ("model", "task", "workload", "hardware")  # what a study's summary names by digest


@dataclass(frozen=True)
class StudyRecord:
    """Everything that defines a search, and its result.

    The dicts ``task``, ``model``, ``workload`` and ``hardware`` become rows of their own, found again by
    their ``digest`` entry; without one the digest is the sha256 of the dict. ``name`` and ``describe``
    (or ``described``) are shown to people.

    Attributes:
        name: Also the name of Optuna's study.
        search_key: sha256 of everything that defines the search.
        task: Task as JSON types.
        model: Model as JSON types: name, digest, family, n_layers, ...
        workload: What is timed, as JSON types.
        hardware: Fingerprint as JSON types.
        budget: text, statistic and limit.
        config: The search options.
        versions: Program and library versions.
        status: ``running``, or a status of the printed result.
        result: The printed JSON when finished.
        created_at: UTC; set by the store.
        updated_at: UTC; set by the store.
    """

    name: str
    search_key: str
    task: Json
    model: Json
    workload: Json
    hardware: Json
    budget: Json = field(default_factory=dict)
    config: Json = field(default_factory=dict)
    versions: Json = field(default_factory=dict)
    status: str = "running"
    result: Json | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


@dataclass(frozen=True)
class StudySummary:
    """One line of ``autoprune studies``."""

    name: str
    status: str
    model: str
    task: str
    workload: str
    hardware: str
    budget: str
    n_points: int
    best_latency_ms: float | None
    best_score: float | None
    created_at: datetime
    updated_at: datetime
    digests: Mapping[str, str]

    def to_dict(self) -> Json:
        """Return the row as JSON types."""
        return asdict(self) | {"created_at": self.created_at.isoformat(), "updated_at": self.updated_at.isoformat()}


@dataclass(frozen=True)
class EvaluationRow:
    """Quality of a policy.

    Attributes:
        n_examples: Examples scored.
        complete: Whether these were all examples of the task.
        score: Task metric, higher is better.
        drop: Dense score minus score on the same examples.
        drop_lo: Lower end of the drop's 95 % interval.
        drop_hi: Upper end.
        agreement: Share of predictions equal to dense.
        kl: Mean KL(dense || pruned) in nats.
        seconds: How long scoring took.
        per_example: Packed outcomes per example, or None.
    """

    n_examples: int
    complete: bool
    score: float | None
    drop: float | None = None
    drop_lo: float | None = None
    drop_hi: float | None = None
    agreement: float | None = None
    kl: float | None = None
    seconds: float | None = None
    per_example: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class MeasurementRow:
    """Cost of a policy.

    Attributes:
        kind: Why it was measured; ``search`` is what is told to Optuna.
        stats: ``{"dense": {"p50": ms, ...}, "policy": {...}}``, raw figures in milliseconds.
        ratio: S(policy) / S(dense) over the same inputs.
        ratio_lo: Lower end of its 95 % interval.
        ratio_hi: Upper end.
        statistic: S: ``p50`` or ``p95``.
        latency_ms: The normalised figure that was told (ratio x the study's dense S); None: the store
            takes ratio x the dense S of the study's first probe, else of this measurement.
        flops: FLOPs of one forward.
        flops_ratio: The same over dense.
        memory: Peak bytes.
        end_to_end_ms: With tokenisation.
        noisy: Whether the machine was too disturbed.
        samples: Packed raw samples, or None.
        extra: Anything else worth keeping (energy, drift, predicted latency, notes).
    """

    kind: Kind
    stats: Json
    ratio: float | None = None
    ratio_lo: float | None = None
    ratio_hi: float | None = None
    statistic: str = "p50"
    latency_ms: float | None = None
    flops: float | None = None
    flops_ratio: float | None = None
    memory: float | None = None
    end_to_end_ms: float | None = None
    noisy: bool = False
    samples: bytes | None = field(default=None, repr=False)
    extra: Json = field(default_factory=dict)


@dataclass(frozen=True)
class StoredEvaluation(EvaluationRow):
    """An evaluation with where it belongs."""

    id: int = 0
    study: str = ""
    trial: int | None = None
    digest: str = ""
    created_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class StoredMeasurement(MeasurementRow):
    """A measurement with where it belongs."""

    id: int = 0
    study: str = ""
    trial: int | None = None
    digest: str = ""
    created_at: datetime | None = None


@dataclass(frozen=True)
class TrialPoint:
    """One trial with both values, as fronts are made of.

    Attributes:
        study: Name of the study.
        trial: Optuna's trial number.
        digest: The policy's digest.
        policy: The policy as JSON types.
        described: The policy in one line.
        latency_ms: Normalised latency, as told to Optuna.
        latency_hi_ms: Upper end of its interval: a budget is met when this is within it.
        score: Task metric.
        drop: Against dense, with its interval.
    """

    study: str
    trial: int
    digest: str
    policy: Json
    described: str
    latency_ms: float
    latency_hi_ms: float
    score: float
    statistic: str = "p50"
    ratio: float | None = None
    ratio_lo: float | None = None
    ratio_hi: float | None = None
    drop: float | None = None
    drop_lo: float | None = None
    drop_hi: float | None = None
    agreement: float | None = None
    kl: float | None = None
    flops_ratio: float | None = None
    end_to_end_ms: float | None = None

    def to_dict(self) -> Json:
        """Return the point as JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class TrialCost:
    """What a front's row shows of one measurement beside the trial's point.

    Attributes:
        kind: Why it was measured.
        stats: See ``MeasurementRow``.
        flops_ratio: FLOPs over dense.
        end_to_end_ms: With tokenisation.
    """

    kind: str
    stats: Json
    flops_ratio: float | None = None
    end_to_end_ms: float | None = None


@dataclass(frozen=True)
class FrontRow:
    """One member of a front that is stored.

    Attributes:
        trial: Optuna's trial number.
        digest: The policy's digest.
        latency_ms: Normalised latency (the verified one in a verified front).
        score: Task metric.
        tie: Whether its intervals overlap a neighbour's.
        row: The whole row as it is printed.
    """

    trial: int | None
    digest: str
    latency_ms: float | None
    score: float | None
    tie: bool = False
    row: Json = field(default_factory=dict)


@dataclass(frozen=True)
class StoredFront:
    """A front as it was stored: when, why, how large."""

    id: int
    study: str
    kind: str
    why: str
    hypervolume: float | None
    created_at: datetime
    rows: tuple[FrontRow, ...]


@dataclass(frozen=True)
class CostTableRow:
    """A stored cost table with where it holds."""

    hardware: str
    model: str
    workload: str
    facts: Json
    created_at: datetime

"""Writes what a search finds: Optuna's trials for the course, our tables for every number."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from autoprune.store.rows import EvaluationRow, MeasurementRow

if TYPE_CHECKING:
    from autoprune.evaluate.quality import Logits, Quality
    from autoprune.latency.timing import PairedTiming
    from autoprune.policy import PruningPolicy
    from autoprune.store.repository import Store
    from autoprune.store.rows import Kind


def pack_logits(logits: Logits) -> bytes:
    """Return logits as compressed bytes, without pickle."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, logits=logits.astype(np.float32))
    return buffer.getvalue()


def unpack_logits(data: bytes) -> Logits:
    """Return logits packed by ``pack_logits``, shape (n, classes)."""
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        logits: Logits = archive["logits"]
        return logits


@dataclass(frozen=True)
class Recorder:
    """Appends evaluations and measurements of one study.

    Attributes:
        store: The open database.
        study: Name of the study.
    """

    store: Store
    study: str

    def policy(self, policy: PruningPolicy) -> None:
        """Keep a policy; figures refer to it by its digest."""
        self.store.add_policy(policy)

    def evaluation(
        self, trial: int, digest: str, quality: Quality, *, complete: bool, logits: Logits, seconds: float
    ) -> None:
        """Keep a policy's quality with its logits, so that a resumed search need not repeat it."""
        row = EvaluationRow(
            n_examples=quality.n_examples,
            complete=complete,
            score=quality.score,
            drop=quality.drop,
            drop_lo=quality.drop_ci95[0],
            drop_hi=quality.drop_ci95[1],
            agreement=quality.agreement,
            kl=quality.kl,
            seconds=seconds,
            per_example=pack_logits(logits),
        )
        self.store.add_evaluation(self.study, trial, digest, row)

    def knows(self, trial: int) -> bool:
        """Say whether the trial's policy is kept as scored on all examples."""
        rows = self.store.evaluations(self.study, samples=False)
        return any(row.trial == trial and row.complete for row in rows)

    def measurement(
        self, kind: Kind, trial: int, digest: str, timing: PairedTiming, statistic: str, latency_ms: float, **more: Any
    ) -> None:
        """Keep a timing with its raw samples; ``more`` are further fields of ``MeasurementRow``."""
        low, high = timing.interval(statistic)
        row = MeasurementRow(
            kind=kind,
            stats={"dense": timing.stats("dense").to_dict(), "policy": timing.stats("policy").to_dict()},
            ratio=timing.ratio(statistic),
            ratio_lo=low,
            ratio_hi=high,
            statistic=statistic,
            latency_ms=latency_ms,
            noisy=timing.noisy,
            samples=timing.to_bytes(),
            **more,
        )
        self.store.add_measurement(self.study, trial, digest, row)

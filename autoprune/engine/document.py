"""Assembles the JSON document that a search prints and stores."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from autoprune.engine import figures
from autoprune.engine.clock import Clock
from autoprune.engine.drift import drift_facts
from autoprune.engine.events import Observer
from autoprune.engine.proposals import was_evaluated
from autoprune.engine.result import SCHEMA_VERSION
from autoprune.engine.session import versions
from autoprune.policy import PruningPolicy

if TYPE_CHECKING:
    import optuna

    from autoprune.engine.session import Session
    from autoprune.latency.probe import ProbeResult
    from autoprune.store.repository import Store


@dataclass
class DocumentMaker:
    """Knows what stays the same in every document of a search.

    Attributes:
        session: The loaded task.
        store: The open database.
        study: Name of the study.
        probe: What the probe found.
        anchor: The study's dense latency in ms by statistic.
        begun: ``time.monotonic()`` at the start.
        spent_s: Seconds of earlier sittings of the same study.
        clock: Knows where the time of this sitting went.
    """

    session: Session
    store: Store
    study: str
    probe: ProbeResult
    anchor: dict[str, float]
    begun: float
    spent_s: float = 0.0
    clock: Clock = field(default_factory=lambda: Clock(Observer()))

    @property
    def limit_ms(self) -> float:
        """The budget in milliseconds."""
        return self.session.budget.limit_ms(self.anchor[self.session.budget.statistic])

    @property
    def limit_ratio(self) -> float:
        """The budget as a share of dense latency."""
        return self.session.budget.limit_ratio(self.anchor[self.session.budget.statistic])

    @property
    def already_met(self) -> bool:
        """Whether dense is within the budget; for one in milliseconds with the upper end of its interval."""
        budget = self.session.budget
        if budget.of_dense is not None:
            return self.limit_ratio >= 1.0
        return self.probe.dense_timing.dense_interval(budget.statistic)[1] <= self.limit_ms

    def make(
        self, status: str, best: figures.Row | None, optuna_study: optuna.Study | None, timed_s: float = 0.0
    ) -> dict[str, Any]:
        """Return the document.

        Args:
            status: How the search ended.
            best: The promised row, or None.
            optuna_study: To count trials; None counts none.
            timed_s: Seconds of the phase "search" that went into timing.
        """
        budget, found = self.session.budget, figures.rows(self.store, self.study)
        dense = next((r for r in found if r["trial"] == 0), None)
        tried = [r for r in found if r["trial"] != 0]
        return {
            "schema_version": SCHEMA_VERSION,
            "study": self.study,
            "db": self.store.url_masked,
            "budget": {"text": budget.text, "statistic": budget.statistic, "limit_ms": self.limit_ms},
            "status": status,
            "dense": {
                "latency_ms": dict(self.anchor),
                "score": dense["score"] if dense else None,
                "n_examples": self._examples() if dense else 0,
                "drift": drift_facts(self.store, self.study),
            },
            "metric": self.session.task.metric.name,
            "floor_ms": self.probe.floor_ratio * self.anchor[budget.statistic],
            "workload": {**self.session.workload.to_dict(), "digest": self.session.workload.digest()},
            "hardware": {**self.session.hardware.to_dict(), "digest": self.session.hardware.digest()},
            "best": best,
            "nearest_infeasible": figures.nearest_infeasible(tried, self.limit_ratio),
            "front": figures.front_rows(found, self.limit_ratio, budget.statistic),
            "trials": trial_counts(optuna_study),
            "elapsed_s": round(self.spent_s + time.monotonic() - self.begun, 1),
            "seconds": {**self.clock.seconds(), "of search: timing": round(timed_s, 1)},
            "versions": versions(),
        }

    def dense_row(self) -> figures.Row:
        """Return dense in the form of ``best``, for a budget that it meets; it was not scored."""
        return {
            "trial": 0,
            "policy": PruningPolicy().to_dict(),
            "digest": PruningPolicy().digest(),
            "latency_ms": dict(self.anchor),
            "ratio": 1.0,
            "ratio_ci95": [1.0, 1.0],
            "speedup": 1.0,
            "score": None,
            "drop": 0.0,
            "drop_ci95": [0.0, 0.0],
            "kl": 0.0,
            "agreement": 1.0,
            "flops_ratio": 1.0,
            "end_to_end_ms": self.probe.end_to_end_ms,
            "verified": False,
        }

    def _examples(self) -> int:
        return max(e.n_examples for e in self.store.evaluations(self.study, samples=False) if e.trial == 0)


def trial_counts(study: optuna.Study | None) -> dict[str, int]:
    """Count policies tried (dense is none): complete, stopped early, failed; refused proposals were not tried."""
    names = {"COMPLETE": "complete", "PRUNED": "stopped", "FAIL": "failed"}
    trials = study.get_trials(deepcopy=False) if study is not None else []
    counts = Counter(names[trial.state.name] for trial in trials if trial.number and was_evaluated(trial))
    return {name: counts[name] for name in names.values()}

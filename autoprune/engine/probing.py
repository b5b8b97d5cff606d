"""The probe: dense latency, the truncation sweep, the floor. It answers before anything is searched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autoprune.engine.events import Observer
from autoprune.engine.session import Session, open_session, versions
from autoprune.latency.probe import ProbeResult, probe
from autoprune.policy import PruningPolicy
from autoprune.store.repository import Store
from autoprune.store.rows import MeasurementRow

if TYPE_CHECKING:
    from autoprune.config import SearchConfig

_STATISTICS = ("p50", "p95", "mean")


@dataclass(frozen=True)
class ProbeReport:
    """A probe with where it was taken.

    Attributes:
        session: The loaded task.
        result: What was found.
    """

    session: Session
    result: ProbeResult

    def to_json(self) -> dict[str, Any]:
        """Return the JSON document of ``autoprune probe --json``."""
        session, result = self.session, self.result
        statistic = session.budget.statistic
        anchor = dense_anchor(result)
        return {
            "schema_version": 1,
            "task": session.task.name,
            "budget": {
                "text": session.budget.text,
                "statistic": statistic,
                "limit_ms": session.budget.limit_ms(anchor[statistic]),
            },
            "probe": result.to_dict(),
            "dense": {"latency_ms": anchor},
            "floor_ms": result.floor_ratio * anchor[statistic],
            "workload": {**session.workload.to_dict(), "digest": session.workload.digest()},
            "hardware": {**session.hardware.to_dict(), "digest": session.hardware.digest()},
            "versions": versions(),
        }

    def lines(self) -> list[str]:
        """Return the findings in lines for people."""
        return self.result.lines()


def run_probe(config: SearchConfig, observer: Observer | None = None) -> ProbeReport:
    """Load the task and probe it; the result is kept for the same hardware, model and workload.

    Raises:
        AutopruneError: Bad input, or the machine cannot be timed.
    """
    observer = observer or Observer()
    with Store.open(config.db) as store:
        session = open_session(config, observer)
        report = ProbeReport(session, probe_session(session, store, observer))
    observer.done()
    return report


def probe_session(
    session: Session,
    store: Store,
    observer: Observer,
    scorers: Iterable[str] | None = None,
    reducers: Iterable[str] | None = None,
) -> ProbeResult:
    """Probe the session's model, alone on the machine; say what was found and keep it.

    Args:
        session: The loaded task.
        store: Where the cost table is kept.
        observer: Told of progress and of the findings.
        scorers: Whose cost to measure; None takes all that are registered.
        reducers: Likewise.
    """
    observer.phase("probe")
    result = probe(
        session.task.model,
        session.inputs,
        session.workload,
        statistic=session.budget.statistic,
        progress=lambda text: observer.message(f"probe      {text}"),
        tokenizer=session.task.tokenizer,
        scorers=scorers,
        reducers=reducers,
        tokenize=_tokenizer_of(session),
    )
    for line in result.lines():
        observer.message(line)
    place = (session.hardware.digest(), session.task.model_digest, session.workload.digest())
    store.put_cost_table(*place, result.to_dict())
    return result


def _tokenizer_of(session: Session) -> Callable[[int], Mapping[str, Any]]:
    """Return a function that tokenises timed input i from its text, as a server would."""
    tokenizer = session.task.tokenizer
    texts = [tokenizer.batch_decode(timed["input_ids"], skip_special_tokens=True) for timed in session.inputs]
    lengths = [int(timed["input_ids"].shape[1]) for timed in session.inputs]

    def tokenize(index: int) -> Mapping[str, Any]:
        found: Mapping[str, Any] = tokenizer(
            texts[index], truncation=True, max_length=lengths[index], padding=True, return_tensors="pt"
        )
        return found

    return tokenize


def dense_anchor(result: ProbeResult) -> dict[str, float]:
    """Return dense latency in ms by statistic: what absolute figures of a study are anchored to."""
    figures: Mapping[str, Any] = result.dense.to_dict()
    return {name: float(figures[name]) for name in _STATISTICS}


def note_dense(session: Session, store: Store, study: str, result: ProbeResult) -> None:
    """Keep dense's latency as the measurement of trial 0."""
    statistic, dense = session.budget.statistic, PruningPolicy()
    figures = result.dense.to_dict()
    row = MeasurementRow(
        kind="probe",
        stats={"dense": figures, "policy": figures},
        ratio=1.0,
        ratio_lo=1.0,
        ratio_hi=1.0,
        statistic=statistic,
        latency_ms=float(figures[statistic]),
        flops_ratio=1.0,
        end_to_end_ms=result.end_to_end_ms,
    )
    store.add_measurement(study, 0, store.add_policy(dense), row)

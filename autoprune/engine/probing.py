"""The probe: dense latency, the truncation sweep, the floor. It answers before anything is searched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from autoprune._registry import REDUCERS, SCORERS
from autoprune.engine.checking import retokenizer
from autoprune.engine.consuming import Consumption, consume
from autoprune.engine.events import Observer
from autoprune.engine.places import TimingPlace, open_place
from autoprune.engine.session import Session, open_session, versions
from autoprune.engine.timing import Timer
from autoprune.errors import AutopruneError
from autoprune.latency.overheads import reducer_choices, scorer_choices
from autoprune.latency.probe import ProbeResult, probe
from autoprune.latency.reprobe import Recheck, adopt, covers, recheck
from autoprune.policy import PruningPolicy
from autoprune.spaces.choices import ReducerChoice, ScorerChoice
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
        consumption: What dense consumes besides time.
    """

    session: Session
    result: ProbeResult
    consumption: Consumption

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
            "consumption": self.consumption.to_dict(),
            "dense": {"latency_ms": anchor},
            "floor_ms": result.floor_ratio * anchor[statistic],
            "workload": {**session.workload.to_dict(), "digest": session.workload.digest()},
            "hardware": {**session.hardware.to_dict(), "digest": session.hardware.digest()},
            "versions": versions(),
        }

    def lines(self) -> list[str]:
        """Return the findings in lines for people."""
        # The consumption has the memory's line.
        return [*replace(self.result, memory_peak=None).lines(), *self.consumption.lines()]


def run_probe(
    config: SearchConfig,
    observer: Observer | None = None,
    *,
    fresh: bool = False,
    batch_sizes: Sequence[int] = (),
) -> ProbeReport:
    """Load the task and probe it; the result is kept for the same hardware, model and workload.

    Args:
        config: The options.
        observer: Told of progress.
        fresh: Probe anew even if a stored probe still fits.
        batch_sizes: For which to measure the throughput.

    Raises:
        AutopruneError: Bad input, or the machine cannot be timed.
    """
    observer = observer or Observer()
    with Store.open(config.db) as store, open_place(config, observer) as place:
        session = open_session(config, observer, place)
        longest = max(session.workload.lengths)
        batches = {rows: session.task.inputs((longest,), rows)[0] for rows in batch_sizes}
        scorers: list[str | ScorerChoice] = [*SCORERS.names(), *session.space.scorer_choices()]
        reducers: list[str | ReducerChoice] = [*REDUCERS.names(), *session.space.reducer_choices()]
        result = probe_session(session, store, observer, scorers, reducers, fresh=fresh)
        observer.message("probe      memory, energy, throughput")
        timer = session.timer(say=lambda text: observer.message(f"probe      {text}"))
        consumption = place.run(timer, consume, result, batches)
    observer.done()
    return ProbeReport(session, replace(result, memory_peak=consumption.memory_peak), consumption)


def probe_session(
    session: Session,
    store: Store,
    observer: Observer,
    scorers: Iterable[str | ScorerChoice] | None = None,
    reducers: Iterable[str | ReducerChoice] | None = None,
    *,
    fresh: bool = False,
) -> ProbeResult:
    """Probe the session's model, alone on the machine; say what was found and keep it.

    A stored probe of the same hardware, model and workload is taken over if dense, timed again, is within
    10 % of the stored one; what was taken over is not stored again, so that small steps do not add up. A new
    probe keeps the costs of methods that only the stored one knows: spaces do not displace each other's.

    Args:
        session: The loaded task.
        store: Where probes are kept.
        observer: Told of progress and of the findings.
        scorers: Whose cost to measure, by name or with parameters; None takes the quick ones.
        reducers: Likewise.
        fresh: Probe anew even if a stored probe fits.
    """
    observer.phase("probe")
    wanted, others = scorer_choices(scorers), reducer_choices(reducers)
    timer = session.timer(say=lambda text: observer.message(f"probe      {text}"))
    place = (session.hardware.digest(), session.task.model_digest, session.workload.digest())
    known, when = (None, "") if fresh else _stored(store, place)
    result = None if known is None else _renewed(known, when, session.place, timer, observer, wanted, others)
    if result is None:
        result = session.place.run(timer, _probe, wanted, others)
        result = result if known is None else adopt(result, known)
        store.put_cost_table(*place, result.to_dict())
    for line in result.lines():
        observer.message(line)
    return result


def _stored(store: Store, place: tuple[str, str, str]) -> tuple[ProbeResult | None, str]:
    """Return the stored probe of this hardware, model and workload, and when it was taken."""
    row = store.cost_table_row(*place)
    try:
        return (None, "") if row is None else (ProbeResult.from_dict(row.facts), f"{row.created_at:%Y-%m-%d %H:%M} UTC")
    except (AutopruneError, KeyError, TypeError, ValueError):
        return None, ""  # another version wrote it


def _renewed(
    known: ProbeResult,
    when: str,
    place: TimingPlace,
    timer: Timer,
    observer: Observer,
    scorers: list[ScorerChoice],
    reducers: list[ReducerChoice],
) -> ProbeResult | None:
    """Return a stored probe with dense timed again; None if it does not fit, and say why."""
    if not covers(known, scorers, reducers):
        observer.message("probe      anew: the stored one lacks the cost of some methods")
        return None
    found = place.run(timer, _recheck, known)
    taken = f"of {when} is reused" if found.result else "is not reused, probing anew"
    observer.message(f"probe      the stored one {taken}: {found.why}")
    return found.result


def _probe(timer: Timer, scorers: list[ScorerChoice], reducers: list[ReducerChoice]) -> ProbeResult:
    return probe(
        timer.model,
        timer.inputs,
        timer.workload,
        statistic=timer.statistic,
        progress=timer.say,
        tokenizer=timer.tokenizer,
        scorers=scorers,
        reducers=reducers,
        tokenize=retokenizer(timer),
    )


def _recheck(timer: Timer, known: ProbeResult) -> Recheck:
    return recheck(
        known,
        timer.model,
        timer.inputs,
        timer.workload,
        statistic=timer.statistic,
        tokenizer=timer.tokenizer,
        progress=timer.say,
    )


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

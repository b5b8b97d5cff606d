"""One sitting at a study whose trials are run by somebody else: asked for policies, told what they scored.

It does by hand what ``SearchRun.run`` does in its loop, on the same objects.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from autoprune.config import SearchConfig
from autoprune.engine import driver
from autoprune.engine.assembly import assemble, open_probe
from autoprune.engine.document import DocumentMaker
from autoprune.engine.events import Observer
from autoprune.engine.interrupt import Interrupt
from autoprune.engine.places import open_place
from autoprune.engine.probing import dense_anchor
from autoprune.engine.resume import pick_study
from autoprune.engine.run import Limits, SearchRun
from autoprune.engine.session import Session, open_session
from autoprune.engine.tables import open_tables
from autoprune.errors import ConfigError
from autoprune.store.repository import Store

if TYPE_CHECKING:
    from optuna.trial import TrialState

    from autoprune.engine.proposals import Proposal
    from autoprune.engine.result import SearchResult
    from autoprune.evaluate.quality import Logits
    from autoprune.pruning.tables import TableSet
    from autoprune.tasks.base import Task


class Sitting:
    """An open study.

    Args:
        run: The search whose study, proposer, scoreboard, timer and store are used.
        task: Model and data.
        tables: Tables that policies refer to.
        config: The options.
    """

    def __init__(self, run: SearchRun, task: Task, tables: TableSet, config: SearchConfig) -> None:
        self._run, self._config = run, config
        self.task, self.tables = task, tables

    @property
    def worker_gpus(self) -> float:
        """GPUs that each trial should reserve."""
        return self._config.worker_gpus

    @property
    def study_name(self) -> str:
        """Name of the study."""
        return self._run.recorder.study

    @property
    def dense(self) -> Logits:
        """Logits of dense, shape (n, classes)."""
        return self._run.scoreboard.dense

    @property
    def n_examples(self) -> int:
        """Held-out examples in all."""
        return self._run.scoreboard.n_examples

    @property
    def waiting(self) -> int:
        """Policies that are scored on all examples and not timed yet."""
        return len(self._run._to_time)

    def begin(self) -> Proposal | None:
        """Return a new policy to score, or None when the space is exhausted."""
        run = self._run
        while (proposal := run.proposer.next()) is not None:
            run._running[proposal.digest] = proposal
            run.recorder.policy(proposal.policy)
            if self.done(proposal) < self.n_examples:
                return proposal
            if not run.recorder.knows(proposal.trial.number):
                run._record(proposal, 0.0)  # another study scored it
            self.await_timing(proposal)
        return None

    def done(self, proposal: Proposal) -> int:
        """Return on how many examples the policy was scored."""
        return self._run.scoreboard.done(proposal.digest)

    def keep(self, proposal: Proposal, start: int, logits: Logits, seconds: float) -> None:
        """Store a rung; one that is known (a trial was started again) is passed over."""
        if start == self.done(proposal):
            self._run.scoreboard.add(proposal.digest, start, logits)
            self._run._record(proposal, seconds)

    def end(self, proposal: Proposal, state: TrialState, why: str) -> None:
        """Tell the study that the policy was stopped or failed."""
        self._run._end(proposal, state, why)

    def await_timing(self, proposal: Proposal) -> None:
        """Queue a fully scored policy for timing."""
        self._run._to_time.append(proposal)

    def time_waiting(self) -> None:
        """Time what waits, alone on the machine, and tell the study."""
        self._run._time_all()

    def result(self) -> SearchResult:
        """Finish the study as the command does: front, verification, document. Call it when the sitting is over."""
        own = {"trials": max(1, self._run.tried), "new": False, "study": self.study_name, "workers": 1}
        if self._config.ray_address is None:
            own["gpus_per_worker"] = None  # one worker is this process, which reserves nothing
        return driver.search(self._config.model_copy(update=own))


@contextmanager
def open_sitting(observer: Observer | None, options: Mapping[str, Any]) -> Iterator[Sitting]:
    """Open a study with everything that proposals and timings need, and hold its lock.

    Raises:
        AutopruneError: Bad input, another driver works on the study, or the budget needs no search.
    """
    observer, config, begun = observer or Observer(), SearchConfig.of(**options), time.monotonic()
    with Store.open(config.db) as store, open_place(config, observer) as place:
        session = open_session(config, observer, place)
        name = pick_study(store, session)
        with store.lock(name):
            probe = open_probe(session, store, name, store.get_study(name), observer)
            maker = DocumentMaker(session, store, name, probe, dense_anchor(probe), begun)
            _needs_search(maker)
            tables, table_of = open_tables(session, store, observer)
            run = _open_run(session, store, maker, observer, tables, table_of)
            yield Sitting(run, session.task, tables, config)


def _needs_search(maker: DocumentMaker) -> None:
    if maker.limit_ratio >= 1.0 or maker.probe.floor_ratio_ci[0] > maker.limit_ratio:
        met = "is met without pruning" if maker.limit_ratio >= 1.0 else "is under the floor that any policy can reach"
        raise ConfigError(f"The budget of {maker.limit_ms:.3g} ms {met}.", "Choose a budget between the two.")


def _open_run(
    session: Session, store: Store, maker: DocumentMaker, observer: Observer, tables: TableSet, table_of: dict[str, str]
) -> SearchRun:
    """Return the search; its own pool is closed again, for Tune runs the trials."""
    limits = Limits(session.trials, maker.limit_ratio, session.budget.statistic, maker.anchor)
    pool = session.open_pool(tables, observer)
    try:
        return assemble(session, store, maker, pool, tables, table_of, limits, observer, Interrupt())
    finally:
        pool.close()

"""One search from its first evaluation to its last: fills the pool, stops the beaten, times, tells."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState

from autoprune.engine.beside import Beside
from autoprune.engine.convergence import Convergence
from autoprune.engine.decision import excess_ms
from autoprune.engine.pace import Pace
from autoprune.engine.parts import Rung, rung_jobs
from autoprune.engine.proposals import WHY_ATTR, Proposal, Proposer, note_quality, tell_values
from autoprune.engine.timing import timing_figures
from autoprune.engine.together import TOGETHER, Timed, time_together, why_not
from autoprune.evaluate.evaluator import Outcome
from autoprune.evaluate.quality import Quality
from autoprune.evaluate.rungs import CERTAIN_SLACK, LATENCY_SLACK, Rival, is_beaten, next_rung
from autoprune.latency.timing import PairedTiming

if TYPE_CHECKING:
    from collections.abc import Mapping

    from autoprune.engine.drift import DenseWatch
    from autoprune.engine.events import Observer
    from autoprune.engine.interrupt import Interrupt
    from autoprune.engine.places import PlacedTimer
    from autoprune.engine.record import Recorder
    from autoprune.engine.scoreboard import Scoreboard
    from autoprune.evaluate.pool import Pool


@dataclass
class Limits:
    """When to stop, and what counts as within the budget.

    Attributes:
        trials: Policies to try in all, dense not counted.
        ratio: The budget as a share of dense latency.
        statistic: The budget's statistic.
        anchor: The study's dense latency in ms by statistic.
        deadline: ``time.monotonic()`` after which nothing new begins, or None.
        converged: Also stop when the next policies are not expected to improve the front.
    """

    trials: int
    ratio: float
    statistic: str
    anchor: Mapping[str, float]
    deadline: float | None = None
    converged: bool = False


def _never() -> bool:
    return False


@dataclass
class SearchRun:
    """The loop of a search. Scoring runs in the pool; timing waits until the pool is empty, or runs beside it.

    Attributes:
        study: Optuna's study.
        proposer: Proposes new policies.
        pool: Scores them.
        timer: Times them, in this process or on a timing node.
        scoreboard: Knows dense and what was scored.
        recorder: Writes to the store.
        watch: Watches dense drift.
        limits: When to stop.
        observer: Told of progress.
        interrupt: Set by Ctrl-C.
        apart: Whether a policy can be timed now without disturbing scoring, or being disturbed by it.
        tried: Policies that were finished, stopped or failed so far.
        exhausted: Whether nothing new was left to propose.
        timed_s: Seconds spent on timing.
        convergence: Whether more policies are worth their time.
        pace: How fast the search goes.
        rivals: Policies that others are compared with, by digest: finished ones, and those still ahead.
    """

    study: optuna.Study
    proposer: Proposer
    pool: Pool
    timer: PlacedTimer
    scoreboard: Scoreboard
    recorder: Recorder
    watch: DenseWatch
    limits: Limits
    observer: Observer
    interrupt: Interrupt
    apart: Callable[[], bool] = _never
    tried: int = 0
    rivals: dict[str, Rival] = field(default_factory=dict)
    exhausted: bool = False
    timed_s: float = 0.0
    convergence: Convergence = field(default_factory=Convergence)
    pace: Pace = field(default_factory=Pace)
    _running: dict[str, Proposal] = field(default_factory=dict)
    _rungs: dict[str, Rung] = field(default_factory=dict)
    _to_time: list[Proposal] = field(default_factory=list)
    _beside: Beside[list[Proposal], list[Timed]] = field(default_factory=Beside)
    _feasible: int = 0
    _best: tuple[float, Quality] | None = None

    def run(self) -> None:
        """Search until enough was tried, time is up, the space is exhausted, or Ctrl-C."""
        self.observer.phase("search", self.limits.trials)
        if self.apart():
            self.observer.message("timing     beside scoring, on a machine of its own")
        self.observer.advance(self.tried)
        self.pace.start()
        while True:
            self._time_beside()
            self._fill()
            if self.pool.pending:
                self._score()
            elif self._beside.busy:
                self._beside.wait()
            elif self._to_time and not self.interrupt.requested:
                self.pool.settle()
                self._time_all()
            else:
                break
        if self.exhausted:
            self.observer.message("space      exhausted: nothing new is left to propose")

    def _score(self) -> None:
        """Take an outcome of the pool, unless what is timed beside it ends first."""
        if self._beside.busy:
            self.pool.wait(lambda: self._beside.done)
        if not self._beside.done:
            self._take(self.pool.next())

    def _stopping(self) -> bool:
        late = self.limits.deadline is not None and time.monotonic() > self.limits.deadline
        enough = self.limits.converged and self.convergence.converged
        return self.interrupt.requested or late or enough or self.exhausted or self._begun() >= self.limits.trials

    def _begun(self) -> int:
        return self.tried + len(self._running)

    def _fill(self) -> None:
        """Submit new policies, unless enough of them wait to be timed: then the pool drains."""
        while self.pool.wanted and len(self._to_time) < self.pool.workers and not self._stopping():
            proposal = self.proposer.next()
            if proposal is None:
                self.exhausted = True
                return
            if proposal.last_resort:
                fastest = f"its fastest policy (predicted at {proposal.predicted_ms:.3g} ms) is measured"
                self.observer.message(f"space      nothing in it is predicted to meet the budget: {fastest}")
            self._running[proposal.digest] = proposal
            self.recorder.policy(proposal.policy)
            scored = self.scoreboard.done(proposal.digest) == self.scoreboard.n_examples
            if scored and not self.recorder.knows(proposal.trial.number):
                self._record(proposal, 0.0)  # another study scored it
            self._go_on(proposal)

    def _go_on(self, proposal: Proposal) -> None:
        """Submit the proposal's next rung, or queue it for timing when all examples are scored."""
        done = self.scoreboard.done(proposal.digest)
        size = next_rung(done, self.scoreboard.n_examples)
        if size is None:
            self._to_time.append(proposal)
            self.observer.update(now="scored")
        else:
            rung = Rung(rung_jobs(proposal.digest, proposal.policy, done, size, self.pool.workers))
            self._rungs[proposal.digest] = rung
            for job in rung.jobs:
                self.pool.submit(job)
            self.observer.update(now=f"scoring {done}-{size} of {self.scoreboard.n_examples}")

    def _take(self, outcome: Outcome) -> None:
        rung = self._rungs.get(outcome.job.key)
        if rung is None:
            return  # another part of it failed
        proposal = self._running[outcome.job.key]
        if outcome.logits is None:
            del self._rungs[proposal.digest]
            self._end(proposal, TrialState.FAIL, outcome.error or "failed")
            return
        if not rung.take(outcome.job.start, outcome.logits, outcome.seconds):
            return
        del self._rungs[proposal.digest]
        self.scoreboard.add(proposal.digest, rung.start, rung.logits)
        quality = self._record(proposal, rung.seconds)
        complete = quality.n_examples == self.scoreboard.n_examples
        if self._is_beaten(proposal, complete):
            self._end(proposal, TrialState.PRUNED, f"beaten after {quality.n_examples} examples")
        elif complete or not self.interrupt.requested:
            self._go_on(proposal)

    def _is_beaten(self, proposal: Proposal, complete: bool) -> bool:
        """Compare with all that are ahead; who is beaten on all examples need not be timed either."""
        kl = self.scoreboard.kl(proposal.digest)
        others = [rival for digest, rival in self.rivals.items() if digest != proposal.digest]
        slack = CERTAIN_SLACK if complete else LATENCY_SLACK
        if is_beaten(kl, proposal.predicted_ms, others, slack):
            return True
        self.rivals[proposal.digest] = Rival(proposal.predicted_ms, kl)
        return False

    def _record(self, proposal: Proposal, seconds: float) -> Quality:
        """Keep what is known of the policy's quality so far."""
        quality = self.scoreboard.quality(proposal.digest)
        self.recorder.evaluation(
            proposal.trial.number,
            proposal.digest,
            quality,
            complete=quality.n_examples == self.scoreboard.n_examples,
            logits=self.scoreboard.logits(proposal.digest),
            seconds=seconds,
        )
        return quality

    def _end(self, proposal: Proposal, state: TrialState, why: str) -> None:
        self.rivals.pop(proposal.digest, None)
        if self.scoreboard.done(proposal.digest):
            note_quality(proposal.trial, self.scoreboard.rungs(proposal.digest))
        proposal.trial.set_user_attr(WHY_ATTR, why)
        self.study.tell(proposal.trial, state=state)
        self.convergence.stopped()
        self._forget(proposal)

    def _forget(self, proposal: Proposal) -> None:
        del self._running[proposal.digest]
        self.tried += 1
        self.pace.step()
        self.observer.advance()
        self.observer.update(**self._progress())

    def _time_all(self) -> None:
        while self._to_time and not self.interrupt.requested:
            self.observer.update(now="timing")
            group = self._next_group()
            self._finish_all(group, self._timed(group))

    def _next_group(self) -> list[Proposal]:
        group, self._to_time = self._to_time[:TOGETHER], self._to_time[TOGETHER:]
        return group

    def _time_beside(self) -> None:
        """Take what was timed beside scoring, and begin with the next, where the two run on different machines."""
        ended = self._beside.take() if self._beside.done else None
        apart = (ended is not None or bool(self._to_time)) and self.apart()
        if ended is not None and not apart:
            self._to_time[:0] = ended[0]  # a worker came to that machine meanwhile
            ended = None
        if apart and self._to_time and not self._beside.busy and not self.interrupt.requested:
            group = self._next_group()
            self._beside.start(group, partial(self._timed, group))
        if ended is not None:
            group, timed = ended
            self._finish_all(group, timed())

    def _timed(self, group: Sequence[Proposal]) -> list[Timed]:
        begun = time.monotonic()
        policies = [proposal.policy for proposal in group]
        timed = time_together(self.timer, policies, lambda: self.interrupt.requested)
        self.timed_s += time.monotonic() - begun
        return timed

    def _finish_all(self, group: Sequence[Proposal], timed: Sequence[Timed]) -> None:
        """Take what became of fully scored policies that were timed in the same rounds."""
        longest = max((one.rounds for one in timed if isinstance(one, PairedTiming)), default=0)
        for proposal, one in zip(group, timed, strict=True):
            if not isinstance(one, PairedTiming):
                self._end(proposal, TrialState.FAIL, why_not(one))
            elif one.rounds == longest:
                self._finish(proposal, one, self._watch_dense(one))
                longest = 0
            else:
                self._finish(proposal, one, {"drift": self.watch.drift(one)})

    def _watch_dense(self, timing: PairedTiming) -> dict[str, Any]:
        """Let the watch see dense; once for policies that share its runs, or one moment would count as several."""
        kept, words = self.watch.observe(timing)
        if words:
            self.observer.message(words)
        return kept

    def _finish(self, proposal: Proposal, timing: PairedTiming, drift: Mapping[str, Any]) -> None:
        """Keep the figures of a timed policy, tell the study."""
        figures = timing_figures(timing, self.limits.anchor, self.limits.statistic)
        latency_ms = figures["latency_ms"][self.limits.statistic]
        excess = excess_ms(figures, self.limits.ratio, self.limits.anchor[self.limits.statistic])
        quality = self.scoreboard.quality(proposal.digest)
        beside = self.timer.extras(proposal.policy)
        expected = {"predicted_ms": proposal.predicted_ms, "keeps": list(proposal.keeps)}
        extra = {**expected, "noise_cause": timing.noise_cause, **drift}
        number = proposal.trial.number
        self.recorder.measurement(
            "search",
            number,
            proposal.digest,
            timing,
            self.limits.statistic,
            latency_ms,
            flops_ratio=beside.flops_ratio,
            end_to_end_ms=latency_ms + beside.tokenise_ms,
            extra=extra,
        )
        note_quality(proposal.trial, self.scoreboard.rungs(proposal.digest))
        tell_values(self.study, proposal.trial, latency_ms, quality.score, excess)
        self.proposer.observe(proposal.policy, latency_ms)
        self.exhausted = False  # predicted anew, more shapes may meet their targets
        self.convergence.finished(latency_ms / self.limits.anchor[self.limits.statistic], quality.score)
        self.rivals[proposal.digest] = Rival(latency_ms, self.scoreboard.kl(proposal.digest))
        self._note(latency_ms, quality, excess)
        self._forget(proposal)

    def _note(self, latency_ms: float, quality: Quality, excess: float) -> None:
        if excess > 0:
            return
        self._feasible += 1
        if self._best is None or quality.score > self._best[1].score:
            self._best = (latency_ms, quality)

    def _progress(self) -> dict[str, object]:
        shown: dict[str, object] = {"feasible": self._feasible}
        if self._best is not None:
            latency_ms, quality = self._best
            low, high = quality.drop_ci95
            shown["best"] = f"{latency_ms:.1f} ms, score {quality.score:.3f}"
            shown["drop"] = f"{quality.drop:.3f} [{low:.3f}, {high:.3f}]"
        return {**shown, **self.pace.words(self.limits.trials - self.tried, self.limits.deadline)}

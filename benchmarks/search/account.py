"""What a search has spent, in full-evaluation equivalents, and what it had found by then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from world import World

from autoprune.evaluate.evaluator import Job, Outcome
from autoprune.evaluate.pools.replay import ReplayPool
from autoprune.evaluate.quality import Logits
from autoprune.evaluate.sharing import shared_layers
from autoprune.policy import PruningPolicy

LEXICON_TEXTS = 320
FORWARDS = 3.0  # forward and backward of dense, in forwards


@dataclass
class Found:
    """A policy that was scored on all examples.

    Attributes:
        spent: Full-evaluation equivalents spent when its last result came.
        count: Evaluations on all examples until then, this one included.
        ratio: Measured latency / dense.
        seen: Its score as the searcher sees it.
        score: Its true score.
        digest: Of the policy.
    """

    spent: float
    count: int
    ratio: float
    seen: float
    score: float
    digest: str


@dataclass
class Account:
    """Adds up examples x predicted cost, over all examples x the cost of a policy on the budget.

    Attributes:
        world: What is searched.
        budget: Share of dense.
        spent: So far.
        parts: The same by what it was spent on.
        found: Policies scored on all examples, in order.
        refused: Proposals that cost nothing, by reason.
    """

    world: World
    budget: float
    spent: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)
    found: list[Found] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)

    def charge(self, what: str, examples: float, cost: float) -> None:
        """Add ``examples`` forwards of ``cost`` (share of dense)."""
        amount = examples * cost / (len(self.world.labels) * self.budget)
        self.spent += amount
        self.parts[what] = self.parts.get(what, 0.0) + amount

    def charge_lexicon(self) -> None:
        """Learning the table that the space's lexicon reads."""
        self.charge("lexicon", LEXICON_TEXTS, FORWARDS)

    def note(self, policy: PruningPolicy) -> None:
        """Keep a policy that was scored on all examples."""
        world = self.world
        seen = float((world.logits(policy).argmax(axis=1) == world.labels).mean())
        self.found.append(
            Found(
                self.spent, len(self.found) + 1, world.latency(policy), seen, world.true_score(policy), policy.digest()
            )
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        rows = [[f.spent, f.ratio, f.seen, f.score, f.digest[:12]] for f in self.found]
        return {"spent": self.spent, "parts": self.parts, "found": rows, "refused": self.refused}


class Logs(dict[str, Logits]):
    """Recorded logits, looked up or computed when a policy is first asked for."""


def repeated(world: World, before: PruningPolicy, policy: PruningPolicy) -> float:
    """Return the cost (share of dense) of the layers that a policy shares with the one before it in its group."""
    table, costs = world.table, []
    shared = shared_layers(before, policy, table.n_layers)
    for length in world.lengths:
        counts = policy.layer_counts(length, table.n_layers, world.n_protected)[:shared]
        costs.append(sum(table.layer(index, count) for index, count in enumerate(counts)) / table.dense(length))
    return sum(costs) / len(costs)


class AccountedPool(ReplayPool):
    """The replay pool with every job charged, layers that a group's jobs share once; it stops a search that spent all.

    Args:
        account: What is charged.
        limit: Full-evaluation equivalents.
        stop: Called once they are spent.
    """

    def __init__(self, account: Account, limit: float, stop: Callable[[], None]) -> None:
        self._logs = Logs()
        super().__init__(self._logs)
        self._account, self._limit, self._stop = account, limit, stop
        self._saved: dict[Job, float] = {}
        self.purpose = "search"

    def submit(self, *jobs: Job) -> None:
        """Take a group of jobs."""
        world = self._account.world
        for job in jobs:
            self._logs[job.policy.digest()] = world.logits(job.policy)
        self._saved |= {job: repeated(world, before.policy, job.policy) for before, job in pairwise(jobs)}
        super().submit(*jobs)

    def next(self) -> Outcome:
        """Return a result, and charge it."""
        outcome = super().next()
        job, account = outcome.job, self._account
        if outcome.logits is None:
            raise LookupError(outcome.error)
        rung = f"{self.purpose} to {job.stop}" if self.purpose == "search" else self.purpose
        account.charge(rung, job.stop - job.start, account.world.cost(job.policy) - self._saved.pop(job, 0.0))
        if self.purpose == "search" and job.stop == len(account.world.labels):
            account.note(job.policy)
        if account.spent >= self._limit:
            self._stop()
        return outcome

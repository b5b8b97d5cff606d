"""The behaviour suite of pools: what every pool does with jobs, wherever they run.

Plug-in authors call ``run_pool``; each check raises ``AssertionError`` in words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from autoprune.evaluate.evaluator import Job, Outcome
from autoprune.evaluate.pool import Pool
from autoprune.policy import PruningPolicy
from autoprune.testing.suite import expect

_STEP = 16


def drain(pool: Pool) -> dict[str, Outcome]:
    """Return all outcomes by the key of their job, each of which must come once."""
    found: dict[str, Outcome] = {}
    while pool.pending:
        before, outcome = pool.pending, pool.next()
        expect(pool.pending == before - 1, "An outcome did not take one job off the pending ones.")
        expect(outcome.job.key not in found, f"The job {outcome.job.key} came twice.")
        found[outcome.job.key] = outcome
    return found


def check_single(pool: Pool, policies: Sequence[PruningPolicy], misfit: PruningPolicy, n: int) -> None:
    """Jobs that were submitted one by one all come back, with a row for each of their examples."""
    ranges = [(start, min(n, start + _STEP)) for start in range(0, n, _STEP)]
    jobs = [Job(f"{i} {start}", policy, start, stop) for i, policy in enumerate(policies) for start, stop in ranges]
    expect(pool.wanted >= 1, "An idle pool wants no job.")
    for count, job in enumerate(jobs, 1):
        pool.submit(job)
        expect(pool.pending == count, "A submitted job is not pending.")
    found = drain(pool)
    for job in jobs:
        logits = found[job.key].logits
        expect(logits is not None, f"The job {job.key} failed: {found[job.key].error}.")
        expect(logits is not None and len(logits) == job.stop - job.start, f"The job {job.key} lacks rows.")


def check_group(pool: Pool, policies: Sequence[PruningPolicy], misfit: PruningPolicy, n: int) -> None:
    """Jobs that were submitted together have the very logits that they have alone."""
    jobs = [Job(str(i), policy, 0, n) for i, policy in enumerate(policies)]
    for job in jobs:
        pool.submit(job)
    alone = drain(pool)
    pool.submit(*jobs)
    expect(pool.pending == len(jobs), "A group does not count as many jobs as it has.")
    together = drain(pool)
    for job in jobs:
        one, other = alone[job.key].logits, together[job.key].logits
        expect(one is not None and other is not None, f"The job {job.key} failed: {together[job.key].error}.")
        expect(bool(np.array_equal(one, other)), f"The job {job.key} has other logits in a group.")  # type: ignore[arg-type]


def check_failure(pool: Pool, policies: Sequence[PruningPolicy], misfit: PruningPolicy, n: int) -> None:
    """A policy that fails does so with an error in words, and takes no other of its group with it."""
    bad = Job("misfit", misfit, 0, n)
    jobs = [Job(str(i), policy, 0, n) for i, policy in enumerate(policies)]
    pool.submit(*jobs[:1], bad, *jobs[1:])
    found = drain(pool)
    expect(found["misfit"].logits is None and bool(found["misfit"].error), "A misfit has no error.")
    for job in jobs:
        expect(found[job.key].logits is not None, f"The job {job.key} failed with another: {found[job.key].error}.")


def check_nothing(pool: Pool, policies: Sequence[PruningPolicy], misfit: PruningPolicy, n: int) -> None:
    """A group of no jobs is nothing."""
    pool.submit()
    expect(pool.pending == 0, "A group of no jobs is pending.")


def check_apart(pool: Pool, policies: Sequence[PruningPolicy], misfit: PruningPolicy, n: int) -> None:
    """It says whether a machine may be timed while it works."""
    expect(pool.apart("a machine that no worker knows") in (True, False), "Whether a machine is apart is not said.")


CHECKS: tuple[Callable[..., None], ...] = (check_single, check_group, check_failure, check_nothing, check_apart)


def run_pool(pool: Pool, policies: Sequence[PruningPolicy], misfit: PruningPolicy, n_examples: int) -> None:
    """Run every check on one pool, and close it.

    Args:
        pool: A pool with nothing to do.
        policies: At least two that the pool can score, some of which begin alike.
        misfit: One that cannot be scored.
        n_examples: Examples that the pool has.

    Raises:
        AssertionError: What is wrong, with the name of the check.
    """
    try:
        for check in CHECKS:
            try:
                check(pool, policies, misfit, n_examples)
            except AssertionError as error:
                raise AssertionError(f"{check.__name__}: {error}") from None
        pool.submit(Job("left", policies[0], 0, n_examples))
    finally:
        pool.close()
    expect(pool.pending == 0, "A closed pool has pending jobs.")

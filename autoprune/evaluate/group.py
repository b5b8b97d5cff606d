"""Runs jobs that were submitted together: policies that begin alike share the layers up to where they differ."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import zip_longest

import numpy as np

from autoprune.errors import AutopruneError, UnsupportedModelError
from autoprune.evaluate.evaluator import Evaluator, Job, Outcome
from autoprune.evaluate.quality import Logits
from autoprune.evaluate.repeats import Repeats
from autoprune.evaluate.sharing import shared_layers
from autoprune.pruning.families import Family, family_of
from autoprune.pruning.plan import make_plan


@dataclass
class _Member:
    """A job of a chain.

    Attributes:
        job: The job.
        depth: First layers that the next job repeats.
        parts: Logits so far, batch by batch.
        seconds: Time spent on it.
        failed: Whether it left the chain.
    """

    job: Job
    depth: int
    parts: list[Logits] = field(default_factory=list)
    seconds: float = 0.0
    failed: bool = False


def run_group(evaluator: Evaluator, jobs: Sequence[Job]) -> list[Outcome]:
    """Run jobs; neighbours that score the same examples share the layers up to where their policies differ.

    Outcomes are those of ``Evaluator.run``, to the bit. A policy that fails does so alone. The states of one batch are
    held at most: the output of each shared layer, and the attention's inputs of those that are watched.

    Args:
        evaluator: Scores policies.
        jobs: Neighbours share most in the order of ``sharing.share_out``.

    Returns:
        An outcome for each job, in the order of the jobs.
    """
    family = _sharing_family(evaluator)
    if family is None:
        return [evaluator.run(job) for job in jobs]
    found: list[Outcome] = []
    for chain in _chains(jobs, family.n_layers(evaluator.model)):
        found += [evaluator.run(chain[0].job)] if len(chain) == 1 else _run_chain(evaluator, family, chain)
    return found


def _sharing_family(evaluator: Evaluator) -> Family | None:
    """Return the model's family, or None where a layer's work can never be repeated by its output alone."""
    try:
        family = family_of(evaluator.model)
    except UnsupportedModelError:
        return None
    return None if family.cached or evaluator.model.training else family


def _chains(jobs: Sequence[Job], n_layers: int) -> Iterator[list[_Member]]:
    """Yield runs of neighbours of which each has layers in common with the next."""
    chain: list[_Member] = []
    for job, following in zip_longest(jobs, jobs[1:]):
        depth = 0
        if following is not None and (job.start, job.stop) == (following.start, following.stop):
            depth = shared_layers(job.policy, following.policy, n_layers)
        chain.append(_Member(job, depth))
        if not depth:
            yield chain
            chain = []


def _run_chain(evaluator: Evaluator, family: Family, chain: Sequence[_Member]) -> list[Outcome]:
    try:
        order = _score_chain(evaluator, family, chain)
    except Exception:  # noqa: BLE001 - no policy's fault, so each job finds out by itself
        return [evaluator.run(member.job) for member in chain]
    return [
        # Alone it has all the memory, and tells why it fails.
        evaluator.run(member.job)
        if member.failed
        else Outcome(member.job, np.concatenate(member.parts)[order], member.seconds)
        for member in chain
    ]


def _score_chain(evaluator: Evaluator, family: Family, chain: Sequence[_Member]) -> np.ndarray:
    """Fill the members batch by batch; return what brings their rows into the fixed order."""
    layers, watched, rows = family.layers(evaluator.model), _watched(evaluator, family, chain), []
    for indices, inputs in evaluator.batches(chain[0].job):
        rows.append(indices)
        repeats = Repeats(layers, watched)
        for member in chain:
            if member.failed:
                continue
            begun = time.perf_counter()
            try:
                with evaluator.attached(member.job.policy), repeats.forward(member.depth):
                    member.parts.append(evaluator.forward(inputs))
            except Exception:  # noqa: BLE001 - whatever a candidate does must not take the others with it
                member.failed = True
            member.seconds += time.perf_counter() - begun
    return np.argsort(np.concatenate(rows))


def _watched(evaluator: Evaluator, family: Family, chain: Sequence[_Member]) -> set[int]:
    """Return the layers whose attention any policy looks at."""
    found: set[int] = set()
    for member in chain:
        with suppress(AutopruneError):  # a policy that does not fit says so when it is attached
            found |= set(make_plan(evaluator.model, member.job.policy, family, evaluator.tables).watched)
    return found

"""Verifying policies with a timer, in whichever fresh process or actor this runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from autoprune.engine.decision import decide
from autoprune.engine.timing import VERIFY_SETTINGS, Timer
from autoprune.engine.together import drifted_once_more
from autoprune.latency.consumption import flops
from autoprune.latency.meter import MeterSettings
from autoprune.latency.timing import PairedTiming
from autoprune.policy import PruningPolicy
from autoprune.pruning.attach import attach
from autoprune.pruning.twin import twin

_TOKENISE_ROUNDS = 5
_COMPARED = 2  # at once: the winner, and who comes next to it


@dataclass(frozen=True)
class Verified:
    """A policy measured in a fresh process.

    Attributes:
        timing: Paired samples.
        flops_ratio: FLOPs of the policy / FLOPs of dense on one timed input, or None if not countable.
        tokenise_ms: Median time to tokenise one timed input, in milliseconds.
    """

    timing: PairedTiming
    flops_ratio: float | None
    tokenise_ms: float


def check_policies(
    timer: Timer,
    policies: Sequence[PruningPolicy],
    limit_ratio: float | None,
    settings: MeterSettings = VERIFY_SETTINGS,
) -> Iterator[Verified]:
    """Measure policies in the order given, two in the same rounds: whether they tie takes two.

    Args:
        timer: What to measure on.
        policies: The policies, best first.
        limit_ratio: With a limit, measuring ends with the two among which one meets it.
        settings: How long and how well.

    Yields:
        One verification per policy.
    """
    settings = settings.with_(reference=limit_ratio or 0.0)
    for begin in range(0, len(policies), _COMPARED):
        group, met = policies[begin : begin + _COMPARED], False
        timings = drifted_once_more(partial(timer.measure_together, settings=settings), group)
        for policy, timing in zip(group, timings, strict=True):
            yield Verified(timing, flops_ratio(timer, policy), tokenise_ms(timer))
            interval = timing.interval(timer.statistic)
            if limit_ratio is not None:
                met = met or decide(interval, limit_ratio, timing.noisy, timing.drifted) == "met"
        if met:
            return


@dataclass(frozen=True)
class Extras:
    """What is told of a timed policy beside its latency.

    Attributes:
        flops_ratio: FLOPs of the policy / FLOPs of dense on one timed input, or None if not countable.
        tokenise_ms: Median time to tokenise one timed input, in milliseconds.
    """

    flops_ratio: float | None
    tokenise_ms: float


def flops_ratio(timer: Timer, policy: PruningPolicy) -> float | None:
    """Return FLOPs of the policy / FLOPs of dense on the first timed input."""
    dense = timer.dense_flops
    with attach(twin(timer.model), policy, tokenizer=timer.tokenizer, tables=timer.tables) as handle:
        own = flops(handle.model, timer.inputs[0])
    return own / dense if dense and own is not None else None


def retokenizer(timer: Timer) -> Callable[[int], Mapping[str, Any]]:
    """Return a function that tokenises timed input i from its text, as a server would.

    Rows of one length may differ by some tokens when their texts are tokenised again, so they are padded; without a
    padding token they cannot be stacked, and the timed input itself is returned once they are tokenised.
    """
    tokenizer = timer.tokenizer
    texts = [tokenizer.batch_decode(timed["input_ids"], skip_special_tokens=True) for timed in timer.inputs]
    lengths = [int(timed["input_ids"].shape[1]) for timed in timer.inputs]

    def tokenize(index: int) -> Mapping[str, Any]:
        several = len(texts[index]) > 1
        if several and tokenizer.pad_token_id is None:
            tokenizer(texts[index], truncation=True, max_length=lengths[index])
            return timer.inputs[index]
        found: Mapping[str, Any] = tokenizer(
            texts[index], truncation=True, max_length=lengths[index], padding=several, return_tensors="pt"
        )
        return found

    return tokenize


def tokenise_ms(timer: Timer) -> float:
    """Return the median milliseconds that tokenising one timed input takes, text to ids."""
    tokenize, samples = retokenizer(timer), []
    for index in range(len(timer.inputs)):
        for _ in range(_TOKENISE_ROUNDS):
            begun = time.perf_counter_ns()
            tokenize(index)
            samples.append((time.perf_counter_ns() - begun) / 1e6)
    return sorted(samples)[len(samples) // 2]

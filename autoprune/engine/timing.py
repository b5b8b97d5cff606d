"""Times policies against dense on the session's workload, alone on the machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from autoprune.latency.consumption import flops
from autoprune.latency.exclusive import timing_lock
from autoprune.latency.meter import Meter, MeterSettings
from autoprune.latency.runners import device_timer, make_runner
from autoprune.latency.threads import pin_threads
from autoprune.latency.timing import PairedTiming
from autoprune.pruning.attach import attach
from autoprune.pruning.twin import twin

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from autoprune.budget import Statistic
    from autoprune.latency.meter import Runner
    from autoprune.latency.workload import Workload
    from autoprune.policy import PruningPolicy
    from autoprune.pruning.tables import TableSet

SEARCH_SETTINGS = MeterSettings(half_width=0.03, max_seconds=8.0, min_rounds=6)
VERIFY_SETTINGS = MeterSettings(half_width=0.015, max_seconds=30.0)
STATISTICS = ("p50", "p95", "mean")


@dataclass
class Timer:
    """Measures pairs of dense and pruned model.

    Attributes:
        model: The model, without a policy attached.
        tokenizer: Names the special tokens.
        workload: What is timed.
        inputs: One model input per timed length.
        tables: Tables that policies refer to.
        statistic: The budget's statistic.
        say: Told when another process is timing and this one waits.
        stop: Asked during such a wait whether to give it up.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    workload: Workload
    inputs: list[dict[str, Tensor]]
    tables: TableSet
    statistic: Statistic
    say: Callable[[str], None] | None = None
    stop: Callable[[], bool] | None = None

    @cached_property
    def _dense(self) -> Runner:
        """Dense, made ready once: compiling it anew for every policy would take longer than timing."""
        return make_runner(self.model, self.workload, self.inputs)

    @cached_property
    def dense_flops(self) -> int | None:
        """FLOPs of dense on the first timed input, or None if not countable."""
        return flops(self.model, self.inputs[0])

    def measure(self, policy: PruningPolicy, settings: MeterSettings = SEARCH_SETTINGS) -> PairedTiming:
        """Time one policy; see ``measure_together``."""
        return self.measure_together([policy], settings)[0]

    def measure_together(
        self, policies: Sequence[PruningPolicy], settings: MeterSettings = SEARCH_SETTINGS
    ) -> list[PairedTiming]:
        """Time each policy in pairs with dense, all in the same rounds, holding the machine's timing lock.

        With the runtime onnxruntime they are timed one after the other: a session for every policy and length holds
        weights of its own.

        Raises:
            WaitStoppedError: ``stop`` ended the wait for the lock.
            PolicyError: The workload's runtime cannot run a policy.
            UnsupportedModelError: Likewise, for the model or a method.
        """
        if self.workload.runtime == "onnxruntime" and len(policies) > 1:
            return [self.measure(policy, settings) for policy in policies]
        with (
            timing_lock(progress=self.say, stop=self.stop),
            pin_threads(self.workload.threads),
            ExitStack() as attached,
        ):
            dense, runners = self._dense, [self._pruned(policy, attached) for policy in policies]
            meter = Meter(settings, timer=device_timer(self.workload.device))
            return meter.measure_together(dense, runners, self.inputs, self.statistic)

    def _pruned(self, policy: PruningPolicy, attached: ExitStack) -> Runner:
        pruned = twin(self.model)
        attached.enter_context(attach(pruned, policy, tokenizer=self.tokenizer, tables=self.tables))
        return make_runner(pruned, self.workload, self.inputs)


def timing_figures(timing: PairedTiming, anchor: Mapping[str, float], statistic: str) -> dict[str, Any]:
    """Return a timing's figures, normalised by the study's dense latency.

    Args:
        timing: The paired samples.
        anchor: The study's dense latency in ms by statistic (p50, p95, mean).
        statistic: The budget's statistic; ``ratio`` and its interval are of this one.
    """
    ratio = timing.ratio(statistic)
    low, high = timing.interval(statistic)
    return {
        "latency_ms": {name: timing.ratio(name) * anchor[name] for name in STATISTICS},
        "ratio": ratio,
        "ratio_ci95": [low, high],
        "speedup": 1.0 / ratio,
        "noisy": timing.noisy,
        "noise_cause": timing.noise_cause,
    }

"""Times policies in the same rounds; one that cannot be timed fails alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from autoprune.errors import AutopruneError, MeasurementError, WaitStoppedError, WorkerError
from autoprune.latency.timing import PairedTiming

if TYPE_CHECKING:
    from autoprune.engine.places import PlacedTimer
    from autoprune.policy import PruningPolicy

TOGETHER = 4  # dense takes most of a round: more would save little, and Ctrl-C waits for them
_MACHINE_FAULTS = (WaitStoppedError, MeasurementError, WorkerError)

T = TypeVar("T")
Timed: TypeAlias = PairedTiming | Exception
"""What a policy took, or why it cannot be timed."""


def time_together(
    timer: PlacedTimer, policies: Sequence[PruningPolicy], hurry: Callable[[], bool] = lambda: False
) -> list[Timed]:
    """Time policies in pairs with dense; those whose dense drifted are timed once more.

    Args:
        timer: What to time on.
        policies: At least one.
        hurry: Asked whether to make do with what was timed although dense drifted.

    Returns:
        One entry per policy.

    Raises:
        WaitStoppedError: The user ended the wait for the machine before anything was timed.
        MeasurementError: The machine cannot be timed.
        WorkerError: The cluster is lost.
    """
    return drifted_once_more(partial(_measured, timer), policies, hurry)


def drifted_once_more(
    measure: Callable[[Sequence[PruningPolicy]], Sequence[T]],
    policies: Sequence[PruningPolicy],
    hurry: Callable[[], bool] = lambda: False,
) -> list[T]:
    """Measure policies in the same rounds; once more those whose dense drifted, or one moment would spoil all.

    Args:
        measure: Measures any of the policies in the same rounds.
        policies: The policies.
        hurry: Asked whether to make do with what was timed although dense drifted.

    Returns:
        One entry per policy.
    """
    timed = list(measure(policies))
    drifted = [index for index, one in enumerate(timed) if isinstance(one, PairedTiming) and one.drifted]
    if drifted and not hurry():
        # Another load came or went meanwhile; once more tells whether it stays.
        with suppress(WaitStoppedError):  # the user stops while another process is timing: what there is will do
            again = measure([policies[index] for index in drifted])
            for index, one in zip(drifted, again, strict=True):
                timed[index] = one
    return timed


def _measured(timer: PlacedTimer, policies: Sequence[PruningPolicy]) -> list[Timed]:
    try:
        return list(timer.measure_together(policies))
    except _MACHINE_FAULTS:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a candidate does must not end the search
        if len(policies) == 1:
            return [error.with_traceback(None)]
    # Beyond the handler, which holds what ran out of memory: one by one, to find whose error it is.
    return [one for policy in policies for one in _measured(timer, [policy])]


def why_not(error: Exception) -> str:
    """Return in words why a policy was not timed."""
    if isinstance(error, AutopruneError):  # the workload's runtime cannot run it
        return error.message
    return f"cannot be timed: {type(error).__name__}: {error}"

"""Where forwards are timed: in this process, or on a node of a Ray cluster that is set aside for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Concatenate, Literal, ParamSpec, Protocol, TypeVar

from autoprune.engine.checking import Extras, flops_ratio, tokenise_ms
from autoprune.engine.timing import SEARCH_SETTINGS, Timer
from autoprune.engine.verify import verify_policies
from autoprune.latency.exclusive import kernel_boot_id, timing_lock
from autoprune.latency.hardware import Hardware, fingerprint
from autoprune.latency.threads import ThreadChoice, resolve_threads

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from autoprune.config import SearchConfig
    from autoprune.engine.checking import Verified
    from autoprune.engine.events import Observer
    from autoprune.latency.meter import MeterSettings
    from autoprune.latency.timing import PairedTiming
    from autoprune.policy import PruningPolicy
    from autoprune.tasks.base import TaskSpec

T = TypeVar("T")
P = ParamSpec("P")


class TimingPlace(Protocol):
    """A machine that times."""

    @property
    def hardware(self) -> Hardware:
        """Fingerprint of the machine."""
        ...

    @property
    def host(self) -> str:
        """What names the machine, ``kernel_boot_id()`` there."""
        ...

    def threads(
        self, wanted: int | Literal["auto"], model: PreTrainedModel, inputs: Sequence[Mapping[str, Tensor]]
    ) -> ThreadChoice:
        """Return with how many threads that machine is best timed; see ``resolve_threads``."""
        ...

    def run(
        self, timer: Timer, function: Callable[Concatenate[Timer, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call a function of a module with the timer, on that machine."""
        ...

    def verify(
        self, spec: TaskSpec, timer: Timer, policies: Sequence[PruningPolicy], limit_ratio: float | None
    ) -> list[Verified]:
        """Measure policies in a fresh process of that machine; see ``verify_policies``."""
        ...


class LocalPlace:
    """This process and this machine."""

    @property
    def hardware(self) -> Hardware:
        """Fingerprint of this machine."""
        return fingerprint()

    @property
    def host(self) -> str:
        """What names this machine."""
        return kernel_boot_id()

    def threads(
        self, wanted: int | Literal["auto"], model: PreTrainedModel, inputs: Sequence[Mapping[str, Tensor]]
    ) -> ThreadChoice:
        """Return with how many threads this machine is best timed."""
        return resolve_threads(wanted, model, inputs)

    def run(
        self, timer: Timer, function: Callable[Concatenate[Timer, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call the function."""
        return function(timer, *args, **kwargs)

    def verify(
        self, spec: TaskSpec, timer: Timer, policies: Sequence[PruningPolicy], limit_ratio: float | None
    ) -> list[Verified]:
        """Measure policies in a fresh process that loads the task anew.

        Others that are timing are waited for here, where the user is told and can end it.
        """
        with timing_lock(progress=timer.say, stop=timer.stop):
            pass
        return verify_policies(spec, timer.workload, policies, timer.tables, timer.statistic, limit_ratio)


@dataclass
class PlacedTimer:
    """A timer that measures wherever its place is.

    Attributes:
        place: Where.
        timer: What.
        settings: How long and how well.
    """

    place: TimingPlace
    timer: Timer
    settings: MeterSettings = SEARCH_SETTINGS
    _tokenise_ms: float | None = None

    def measure_together(self, policies: Sequence[PruningPolicy]) -> list[PairedTiming]:
        """Time policies in pairs with dense, in the same rounds; see ``Timer.measure_together``."""
        return self.place.run(self.timer, Timer.measure_together, policies, self.settings)

    def extras(self, policy: PruningPolicy) -> Extras:
        """Return what is told of a timed policy beside its latency; counted in this process, without a clock."""
        if self._tokenise_ms is None:
            self._tokenise_ms = tokenise_ms(self.timer)
        return Extras(flops_ratio(self.timer, policy), self._tokenise_ms)


@contextmanager
def open_place(config: SearchConfig, observer: Observer) -> Iterator[TimingPlace]:
    """Give the place where a search or a probe times, and free it afterwards.

    With ``--ray-address`` that is a node with the resource ``autoprune_timer``; on a cluster without
    one it is this machine, and the observer is told so.

    Raises:
        ConfigError: The timing nodes are not of one kind.
        WorkerError: The cluster cannot be reached.
    """
    if config.ray_address is None:
        yield LocalPlace()
        return
    from autoprune.engine.timing_nodes import open_node

    with open_node(config.ray_address, config.device, observer) as node:
        yield LocalPlace() if node is None else node

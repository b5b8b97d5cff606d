"""Everything a search stands on, loaded and checked before the first row is written."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from autoprune.budget import Budget
from autoprune.config import SearchConfig
from autoprune.engine.events import Observer
from autoprune.engine.fitting import fit_space
from autoprune.engine.places import LocalPlace, TimingPlace
from autoprune.engine.timing import Timer
from autoprune.errors import ConfigError
from autoprune.evaluate.pool import Pool, check_gpus, open_pool
from autoprune.latency.hardware import Hardware
from autoprune.latency.runners import check_runtime, prepare_model
from autoprune.latency.threads import ThreadChoice
from autoprune.latency.workload import Workload, resolve_lengths
from autoprune.policy import Protect, PruningPolicy
from autoprune.pruning.families import Family, family_of
from autoprune.pruning.protect import protected_count
from autoprune.pruning.tables import TableSet
from autoprune.spaces.schema import load_space_file
from autoprune.spaces.space import Space
from autoprune.tasks.base import Task, TaskSpec, load_task

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

QUICKSTART_TOKENS = 256
_TIMED_INPUTS = 9  # odd, so that a median over lengths is one input's
_SAME_LENGTH_INPUTS = 5  # inputs of one length differ by nothing but noise, which more rounds show as well
_OPTIONAL = ("onnx", "onnxruntime", "onnxscript")
_PACKAGES = ("autoprune", "torch", "transformers", "optuna", "ray", "tokenizers", "numpy", *_OPTIONAL)


@dataclass
class Session:
    """A loaded task on this machine.

    Attributes:
        config: The options.
        budget: The parsed budget.
        task: Model, tokenizer, data and metric.
        family: The model's architecture.
        space: The search space, bound to the model's depth.
        hardware: Fingerprint of the machine that times.
        workload: What is timed.
        inputs: Model inputs of the workload, one per timed length.
        n_protected: Tokens of a timed input that never leave.
        place: Where timing happens.
        plain_model: The model in its own precision: what lexicons are learned with.
        stop: Says whether the user asked for the end; None: nobody can.
    """

    config: SearchConfig
    budget: Budget
    task: Task
    family: Family
    space: Space
    hardware: Hardware
    workload: Workload
    inputs: list[dict[str, Tensor]]
    n_protected: int
    place: TimingPlace
    plain_model: PreTrainedModel
    stop: Callable[[], bool] | None = None

    @property
    def search_key(self) -> str:
        """sha256 of everything that defines the search; equal keys resume one study."""
        return self._key(self.config.defining())

    @property
    def early_key(self) -> str:
        """The search key that early versions gave this search; the same unless a relative path was typed."""
        return self._key(self.config.defining_as_typed())

    def _key(self, options: Mapping[str, Any]) -> str:
        parts = {
            **options,
            "space": self.space.file.model_dump(mode="json"),
            "model_digest": self.task.model_digest,
            "data": self.task.fingerprint,
            "hardware": self.hardware.digest(),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def study_name(self) -> str:
        """The study's name: given, or task and 8 hex digits of the search key."""
        return self.config.study or f"{self.task.name}-{self.search_key[:8]}"

    @property
    def trials(self) -> int:
        """Policies that the search may try: given, or the space's."""
        return self.config.trials or self.space.file.trials

    def model_record(self) -> dict[str, Any]:
        """Return what is stored of the model."""
        return {
            "name": self.config.model or "quickstart",
            "digest": self.task.model_digest,
            "family": self.family.name,
            "n_layers": self.space.n_layers,
        }

    def timer(self, tables: TableSet | None = None, say: Callable[[str], None] | None = None) -> Timer:
        """Return what is timed: the model on the workload's inputs, with these tables.

        Args:
            tables: Tables that policies refer to; None for none.
            say: Told when another process is timing.
        """
        task, statistic = self.task, self.budget.statistic
        tables = TableSet() if tables is None else tables
        return Timer(task.model, task.tokenizer, self.workload, self.inputs, tables, statistic, say, self.stop)

    def open_pool(self, tables: Any, observer: Observer) -> Pool:
        """Start the pool that the options ask for, and say which."""
        config, gpus = self.config, self.config.worker_gpus
        pool = open_pool(self.task, tables, config.workers, config.ray_address, gpus)
        where = "in this process" if pool.workers == 1 and not gpus else f"on {pool.workers} Ray workers"
        where += f" with {gpus:g} GPU each" if gpus else ""
        observer.message(f"scoring    {where}; timing in pairs with dense")
        return pool


def open_session(config: SearchConfig, observer: Observer, place: TimingPlace | None = None) -> Session:
    """Load and check everything; writes nothing.

    Args:
        config: The options.
        observer: Told of progress.
        place: Where timing happens; None is this process.

    Raises:
        AutopruneError: Whatever the user gave wrong: model, data, space, options.
    """
    budget = config.parsed_budget
    space_file = load_space_file(config.space)
    check_runtime(config.runtime)  # before minutes of loading
    observer.phase("loading model and data")
    task = load_task(task_spec(config), lambda text: observer.message(f"loading    {text}"))
    for note in task.notes:
        observer.message(f"note       {note}")
    family = family_of(task.model)
    space_file, left_out = fit_space(space_file, family, task.model, config.runtime)
    for note in left_out:
        observer.message(f"space      {note}")
    space = Space(space_file, family.n_layers(task.model))
    if config.device == "cpu" or config.device.startswith(("cuda", "mps")):
        lengths, source = _lengths(config, task)
    else:
        raise ConfigError(f"There is no device {config.device!r}.", "Use cpu, cuda, cuda:N or mps.")
    inputs = task.inputs(lengths, config.batch_size)
    place = place or LocalPlace()
    workload = Workload(
        batch_size=config.batch_size,
        lengths=lengths,
        length_source=source,
        dtype=config.dtype,
        device=config.device,
        attention=config.attention,
        runtime=config.runtime,
    )
    plain_model = task.model
    if config.device == "cpu":  # elsewhere no thread is tried
        task.model = prepare_model(plain_model, workload)
    workload = replace(workload, threads=_threads(config, place, task, inputs, observer))
    task.model = prepare_model(task.model, workload)
    if config.ray_address is None:  # on a cluster, GPUs may come with nodes that join later
        check_gpus(config.workers, config.worker_gpus)
    n_protected = _protected(task, space.protect, inputs)
    return Session(
        config, budget, task, family, space, place.hardware, workload, inputs, n_protected, place, plain_model
    )


def task_spec(config: SearchConfig) -> TaskSpec:
    """Return the part of the options that names model and data."""
    return TaskSpec(
        model=config.model,
        dataset=config.dataset,
        kind=config.task,
        metric=config.metric,
        split=config.split,
        text_columns=config.text_columns,
        label_column=config.label_column,
        trust_remote_code=config.trust_remote_code,
    )


def stored_workload(facts: Mapping[str, Any]) -> Workload:
    """Return the workload of a stored study or export, whose facts carry words for people as well."""
    return Workload.from_dict({name: value for name, value in facts.items() if name not in ("describe", "digest")})


def versions() -> dict[str, str]:
    """Return the versions of what produces the figures."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            if package not in _OPTIONAL:
                found[package] = "unknown"
    return found


def _lengths(config: SearchConfig, task: Task) -> tuple[tuple[int, ...], str]:
    """Return the timed lengths and where they come from."""
    wanted = config.seq_len
    if wanted is None:
        wanted = QUICKSTART_TOKENS if config.model is None else "data"
    n = _TIMED_INPUTS if wanted == "data" else _SAME_LENGTH_INPUTS
    return resolve_lengths(wanted, task.lengths, n=n)


def _threads(
    config: SearchConfig, place: TimingPlace, task: Task, inputs: Sequence[Mapping[str, Tensor]], observer: Observer
) -> int:
    """Return with how many threads to time, and say why; ``auto`` tries the model in the arithmetic that is timed."""
    if config.threads == "auto" and config.device != "cpu":
        choice = ThreadChoice(1, f"forwards run on {config.device}, and one thread feeds it")
    else:
        choice = place.threads(config.threads, task.model, inputs)
    tried = "; tried with the runtime eager" if choice.tried and config.runtime != "eager" else ""
    observer.message(f"threads    {choice.count} ({choice.reason}{tried})")
    return choice.count


def _protected(task: Task, protect: Protect, inputs: list[dict[str, Tensor]]) -> int:
    """Return the protected tokens of the first timed input under the space's protection."""
    return protected_count(task.model, PruningPolicy(protect=protect), task.tokenizer, inputs[0]["input_ids"][0])

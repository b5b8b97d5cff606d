"""``SearchConfig``: everything a search is told, checked before anything is loaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from autoprune.budget import Budget
from autoprune.errors import ConfigError

_PATHS = ("model", "dataset", "space")
_SPACE_FILES = (".yaml", ".yml")


class SearchConfig(BaseModel):
    """The options of one search; the same names as on the command line.

    Build it with :meth:`of`, which turns every mistake into one ``ConfigError`` or ``BudgetError``. Files and folders
    that are there become absolute paths: what is stored of a search must not depend on the working directory.

    Attributes:
        model: Folder or hub id of the model; None is the embedded quickstart.
        dataset: File, folder or hub name; None with ``model`` None is the quickstart's own.
        task: Task kind.
        metric: ``accuracy`` or ``f1`` (macro).
        budget: A latency budget, such as ``20ms``, ``40%`` or ``2x@p95``.
        trials: Policies to try; None takes the space's own number.
        until: ``converged`` also stops when the next policies are not expected to improve the front.
        time_limit: Seconds after which no new policy is begun; None is no limit.
        space: Name of a shipped space, or path of a YAML file.
        sampler: Name of the sampler.
        seed: Seed of everything random.
        workers: Worker processes, or ``auto``.
        gpus_per_worker: Share of a GPU that each Ray worker reserves and scores on; None: none on the CPU, a
            whole one for ``cuda``.
        ray_address: Address of a running Ray cluster.
        db: Database URL or file; None is the default file.
        study: Name of the study; None derives it from what defines the search.
        batch_size: Batch size of the timed workload.
        seq_len: Tokens per timed input, a list with one timed input each, ``data`` (lengths of the data set), or
            None (task's default).
        threads: CPU threads of the timed workload, or ``auto``.
        device: Torch device of the timed workload.
        dtype: Number type of the timed workload.
        attention: Attention backend of transformers in the timed workload.
        runtime: What runs the timed forwards: ``eager``, ``compile`` or ``onnxruntime``.
        out: Folder for the export of the best policy.
        new: Start another study even if this search exists.
        split: Split of the data set to score on.
        text_columns: One or two text columns; empty to guess.
        label_column: Label column; None to guess.
        trust_remote_code: Let the model's own code run.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = None
    dataset: str | None = None
    task: str = "text-classification"
    metric: Literal["accuracy", "f1"] = "accuracy"
    budget: str = "20ms"
    trials: int | None = Field(default=None, ge=1, le=1_000_000)
    until: Literal["converged"] | None = None
    time_limit: float | None = Field(default=None, gt=0)
    space: str = "quick"
    sampler: str = "autoprune"
    seed: int = Field(default=0, ge=0, lt=2**32)
    workers: int | Literal["auto"] = "auto"
    gpus_per_worker: float | None = None
    ray_address: str | None = None
    db: str | None = None
    study: str | None = None
    batch_size: int = Field(default=1, ge=1, le=4096)
    seq_len: int | tuple[int, ...] | Literal["data"] | None = None
    threads: int | Literal["auto"] = "auto"
    device: str = "cpu"
    dtype: Literal["float32", "bfloat16", "int8"] = "float32"
    attention: Literal["sdpa", "eager", "flash_attention_2", "flex_attention"] = "sdpa"
    runtime: Literal["eager", "compile", "onnxruntime"] = "eager"
    out: Path | None = None
    new: bool = False
    split: str | None = None
    text_columns: tuple[str, ...] = ()
    label_column: str | None = None
    trust_remote_code: bool = False
    _as_typed: dict[str, Any] = PrivateAttr(default_factory=dict)

    @classmethod
    def of(cls, **options: Any) -> SearchConfig:
        """Check the options.

        Raises:
            ConfigError: An option is unknown or has a wrong value; the first mistake is named.
            BudgetError: The budget cannot be understood.
        """
        if isinstance(options.get("budget"), Budget):
            options["budget"] = options["budget"].text
        try:
            config = cls(**options)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = "--" + str(first["loc"][0]).replace("_", "-") if first["loc"] else "The search"
            message = first["msg"].removeprefix("Value error, ")
            raise ConfigError(f"{name}: {message}.", "See `autoprune search --help`.") from None
        Budget.parse(config.budget)
        return config

    @field_validator("seq_len")
    @classmethod
    def _lengths(cls, value: int | tuple[int, ...] | str | None) -> int | tuple[int, ...] | str | None:
        if isinstance(value, tuple) and (not value or min(value) < 1):
            raise ValueError(f"must be whole numbers from 1, not {', '.join(map(str, value)) or 'none'}")
        return value[0] if isinstance(value, tuple) and len(value) == 1 else value

    @field_validator("workers", "threads", "seq_len")
    @classmethod
    def _positive(cls, value: int | tuple[int, ...] | str | None) -> int | tuple[int, ...] | str | None:
        if isinstance(value, int) and value < 1:
            raise ValueError(f"must be a whole number from 1, not {value}")
        return value

    @field_validator("gpus_per_worker")
    @classmethod
    def _share_or_whole(cls, value: float | None) -> float | None:
        if value is not None and not (0 <= value <= 1 or (value > 1 and value.is_integer())):
            raise ValueError(f"must be 0, a share of one GPU such as 0.25, or a whole number, not {value:g}")
        return value

    @field_validator(*_PATHS)
    @classmethod
    def _absolute(cls, value: str | None, info: ValidationInfo) -> str | None:
        path = Path(value or "").expanduser()
        named = not value or (info.field_name == "space" and path.suffix not in _SPACE_FILES)
        return value if named or not path.exists() else os.path.abspath(path)

    @model_validator(mode="wrap")
    @classmethod
    def _keep_what_was_typed(cls, given: Any, build: ModelWrapValidatorHandler[SearchConfig]) -> SearchConfig:
        config = build(given)
        if isinstance(given, dict):
            typed = {name: given[name] for name in _PATHS if name in given}
            config._as_typed = {name: text for name, text in typed.items() if text != getattr(config, name)}
        return config

    @field_validator("text_columns")
    @classmethod
    def _one_or_two(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(value) > 2:
            raise ValueError("takes one column, or two for pairs of texts")
        return value

    @model_validator(mode="after")
    def _model_and_data(self) -> SearchConfig:
        if (self.model is None) != (self.dataset is None):
            given, lacking = ("model", "dataset") if self.dataset is None else ("dataset", "model")
            raise ValueError(f"--{given} needs --{lacking} beside it (give both, or none for the quickstart)")
        if self.runtime == "onnxruntime" and (self.dtype != "float32" or self.device != "cpu"):
            raise ValueError("--runtime onnxruntime is timed in float32 on the CPU; leave --dtype and --device out")
        if self.ray_address is not None and self.workers == 1:
            raise ValueError("--workers 1 evaluates in this process and uses no Ray cluster; leave one of them out")
        return self

    @model_validator(mode="after")
    def _gpus(self) -> SearchConfig:
        given, on_gpu = self.gpus_per_worker, self.device.startswith("cuda")
        if given and self.workers == 1 and self.ray_address is None:
            raise ValueError("--workers 1 scores in this process, and --gpus-per-worker is for Ray workers")
        if given and self.device.startswith("mps"):
            raise ValueError("--gpus-per-worker is for CUDA; Ray shares no MPS device out")
        if given and self.dtype == "int8":
            raise ValueError("int8 models run on CPUs alone; leave --gpus-per-worker out or choose another --dtype")
        if given == 0 and on_gpu and self.workers != 1:
            raise ValueError(f"workers without a GPU cannot score on {self.device}; --gpus-per-worker 1 gives each one")
        return self

    @property
    def worker_gpus(self) -> float:
        """GPUs that each Ray worker reserves; 0 where they score on CPUs, or where there are none."""
        if self.gpus_per_worker is not None:
            return self.gpus_per_worker
        on_ray = self.workers != 1 or self.ray_address is not None
        return 1.0 if on_ray and self.device.startswith("cuda") else 0.0

    @property
    def parsed_budget(self) -> Budget:
        """The budget as a value."""
        return Budget.parse(self.budget)

    def defining(self) -> dict[str, Any]:
        """Return the options that define the search: the same ones resume the same study.

        How long it runs, where it runs and where results go do not define it.
        """
        how_long, kept = {"trials", "until", "time_limit"}, {"db", "study", "out", "new"}
        where = {"workers", "gpus_per_worker", "ray_address"}
        return self.model_dump(mode="json", exclude={*how_long, *kept, *where, "trust_remote_code"})

    def defining_as_typed(self) -> dict[str, Any]:
        """Return the same with paths as they were typed: early versions named their studies after that."""
        return self.defining() | self._as_typed

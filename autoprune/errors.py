"""Every error that autoprune raises on purpose.

Each error says what is wrong and why (``message``) and what to do next (``hint``). The command
line prints both without a traceback, and ``exit_code`` is what the process ends with.
"""

from __future__ import annotations

from typing import ClassVar


class AutopruneError(Exception):
    """Root of the tree.

    Args:
        message: What is wrong and why, one sentence.
        hint: What to do next, one sentence; may be empty.

    Attributes:
        code: Stable machine-readable name, printed by ``--json``.
        exit_code: Process exit code: 1 failure, 2 usage or bad input, 4 too noisy to decide, 130 interrupted.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[type[AutopruneError], tuple[str, str]]:
        # Errors cross process borders (Ray workers): keep the hint, which args alone would lose.
        return type(self), (self.message, self.hint)

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class InputError(AutopruneError):
    """Something the user gave cannot be used."""

    code = "input"
    exit_code = 2


class BudgetError(InputError):
    """A budget that cannot be understood, such as ``20`` without a unit."""

    code = "budget"


class PolicyError(InputError):
    """A policy that breaks the grammar, or that does not fit the model."""

    code = "policy"


class ConfigError(InputError):
    """A search option or space file with a wrong value."""

    code = "config"


class DataError(InputError):
    """A data set that is missing, empty, or lacks a column."""

    code = "data"


class ModelError(InputError):
    """A model that cannot be loaded or is of the wrong kind."""

    code = "model"


class UnsupportedModelError(ModelError):
    """A model family, or a combination of method and family, that cannot work."""

    code = "unsupported_model"


class MissingExtraError(InputError):
    """An optional dependency is needed; the hint names the extra to install."""

    code = "missing_extra"


class StoreError(AutopruneError):
    """The database cannot be opened, read or written."""

    code = "store"
    exit_code = 2


class StudyNotFoundError(StoreError):
    """No study of that name."""

    code = "study_not_found"


class AmbiguousStudyError(StudyNotFoundError):
    """Several studies have names that begin so."""

    code = "study_ambiguous"


class StudyLockedError(StoreError):
    """Another driver works on the study."""

    code = "study_locked"


class SchemaVersionError(StoreError):
    """The database was written by another version of the program."""

    code = "schema_version"


class MeasurementError(AutopruneError):
    """Latency could not be measured."""

    code = "measurement"


class TooNoisyError(MeasurementError):
    """The machine is too disturbed to decide."""

    code = "too_noisy"
    exit_code = 4


class WaitStoppedError(MeasurementError):
    """Ctrl-C came while another process was timing and this one waited for it."""

    code = "interrupted"
    exit_code = 130


class WorkerError(AutopruneError):
    """A worker process died or could not start."""

    code = "worker"


class AssetError(AutopruneError):
    """A file that ships with autoprune is missing or damaged."""

    code = "asset"

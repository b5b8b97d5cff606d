"""What a search ends with: one JSON document, and Python objects over it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune.policy import PruningPolicy

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 1
EXIT_CODES = {"met": 0, "already_met": 0, "not_met": 3, "infeasible": 3, "too_noisy": 4, "interrupted": 130}


@dataclass(frozen=True)
class Candidate:
    """A policy with its figures; the fields of ``best`` in the JSON document."""

    data: Mapping[str, Any]

    @property
    def policy(self) -> PruningPolicy:
        """The policy."""
        return PruningPolicy.from_dict(self.data["policy"])

    def __getattr__(self, name: str) -> Any:
        # Dunder look-ups come from copy and pickle before data exists.
        if name.startswith("__") or name == "data" or name not in self.data:
            raise AttributeError(f"a candidate has no field {name!r}")
        return self.data[name]


@dataclass(frozen=True)
class Front:
    """The policies that no other one beats in both latency and score, fastest first."""

    rows: tuple[Mapping[str, Any], ...]

    def __iter__(self) -> Iterator[Candidate]:
        return (Candidate(row) for row in self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Candidate:
        return Candidate(self.rows[index])

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per policy; nested figures become columns such as ``latency_ms.p50``."""
        import pandas as pd

        return pd.json_normalize([flat_row(row) for row in self.rows])


def flat_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a front row fit for a table: intervals as two columns, the policy as one line."""
    out: dict[str, Any] = {}
    for key, value in row.items():
        if key == "policy":
            out["policy"] = PruningPolicy.from_dict(value).describe()
        elif key.endswith("_ci95") and value is not None:
            out[f"{key}.low"], out[f"{key}.high"] = value
        elif isinstance(value, Mapping):
            out.update({f"{key}.{inner}": figure for inner, figure in value.items()})
        else:
            out[key] = value
    return out


@dataclass(frozen=True)
class SearchResult:
    """The end of a search.

    Attributes:
        data: The JSON document; docs/json.md of the repository lists its fields.
        source: The database as it was asked for; the document has it with the password masked.
    """

    data: Mapping[str, Any]
    source: str | None = field(default=None, repr=False, compare=False)

    @property
    def status(self) -> str:
        """``met``, ``already_met``, ``not_met``, ``infeasible``, ``too_noisy`` or ``interrupted``."""
        return str(self.data["status"])

    @property
    def best(self) -> Candidate | None:
        """The promised policy, or None if the budget is not met."""
        return None if self.data["best"] is None else Candidate(self.data["best"])

    @property
    def front(self) -> Front:
        """The front as it was told to the study."""
        return Front(tuple(self.data["front"]))

    @property
    def exit_code(self) -> int:
        """The command line's exit code for this status."""
        return EXIT_CODES[self.status]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON document."""
        return dict(self.data)

    def save(self, directory: str | Path, trial: int | None = None) -> Path:
        """Export the best policy (or a trial of the study) with its model; see ``autoprune export``.

        Raises:
            AutopruneError: There is nothing to export, or the folder cannot be written.
        """
        from autoprune.engine.queries import export

        return Path(export(self.source, self.data["study"], trial, Path(directory))["directory"])

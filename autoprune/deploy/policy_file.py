"""``autoprune_policy.json``: a policy and everything that was promised of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from autoprune.errors import ModelError, PolicyError
from autoprune.policy import PruningPolicy

POLICY_FILE = "autoprune_policy.json"
TABLES_FILE = "autoprune_tables.safetensors"
FILE_VERSION = 1

Json = dict[str, Any]


@dataclass(frozen=True)
class PolicyFile:
    """The content of ``autoprune_policy.json``.

    Attributes:
        policy: The policy.
        figures: What the study measured, as in ``best`` of the search's JSON document.
        workload: On what it was measured.
        hardware: Where it was measured.
        versions: With which versions it was measured.
        task: Model, data and metric (``TaskSpec.to_dict``), so that ``autoprune bench`` can score again.
        study: Name, trial, budget and the like of the study that found it.
    """

    policy: PruningPolicy
    figures: Json = field(default_factory=dict)
    workload: Json = field(default_factory=dict)
    hardware: Json = field(default_factory=dict)
    versions: Json = field(default_factory=dict)
    task: Json = field(default_factory=dict)
    study: Json = field(default_factory=dict)

    @classmethod
    def from_dict(cls, data: Any, source: str = "The policy file") -> PolicyFile:
        """Read the content; ``source`` names it in messages.

        Raises:
            PolicyError: Unknown or missing fields, another version, or a policy that breaks the grammar.
        """
        if not isinstance(data, Mapping):
            raise PolicyError(f"{source} must hold a JSON object, not {type(data).__name__}.")
        known = {"version", *(each.name for each in fields(cls))}
        unknown = sorted(set(data) - known)
        if unknown:
            raise PolicyError(
                f"{source} has unknown fields: {', '.join(unknown)}.",
                f"Known fields: {', '.join(sorted(known))}. A newer autoprune may have written it.",
            )
        if data.get("version") != FILE_VERSION:
            raise PolicyError(
                f"{source} has version {data.get('version')!r}; this autoprune reads version {FILE_VERSION}.",
                "Update autoprune (pip install -U autoprune), or export the policy again.",
            )
        if "policy" not in data:
            raise PolicyError(f"{source} holds no policy.", "Export the policy again: autoprune export STUDY -o DIR.")
        facts = {name: data.get(name, {}) for name in known - {"version", "policy"}}
        wrong = sorted(name for name, value in facts.items() if not isinstance(value, Mapping))
        if wrong:
            raise PolicyError(f"{source}: {' and '.join(wrong)} must be a JSON object.")
        return cls(policy=PruningPolicy.from_dict(data["policy"]), **{name: dict(facts[name]) for name in facts})

    def to_dict(self) -> Json:
        """Return the content as JSON types; ``from_dict`` gives it back."""
        facts = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "policy"}
        return {"version": FILE_VERSION, "policy": self.policy.to_dict(), **facts}

    def write(self, directory: Path) -> None:
        """Write the file into a folder."""
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        (directory / POLICY_FILE).write_text(text + "\n", encoding="utf-8")


def read_policy_file(directory: str | Path) -> PolicyFile:
    """Read ``autoprune_policy.json`` of an exported folder.

    Raises:
        ModelError: There is no such folder, or it is no export.
        PolicyError: The file cannot be understood.
    """
    folder = Path(directory).expanduser()
    if not folder.is_dir():
        raise ModelError(f"There is no folder {folder}.", "Give a folder that `autoprune export` wrote.")
    path = folder / POLICY_FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            f"The folder {folder} holds no {POLICY_FILE}, so it is no autoprune export.",
            "Make one with: autoprune export STUDY -o DIR.",
        ) from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}.") from None
    except ValueError as error:
        raise PolicyError(f"{path} is no valid JSON: {error}.", "Export the policy again.") from None
    return PolicyFile.from_dict(data, str(path))

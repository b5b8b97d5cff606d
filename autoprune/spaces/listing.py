"""Which spaces there are, without looking into them: the methods they name would load torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from autoprune.errors import ConfigError
from autoprune.resources import resource


def shipped() -> list[str]:
    """Return the names of the spaces that come with autoprune."""
    return sorted(path.stem for path in resource("search_spaces").glob("*.yaml"))


def space_path(name_or_path: str) -> Path:
    """Return the file of a shipped space by name, or of any space by path.

    Raises:
        ConfigError: There is no such space.
    """
    if name_or_path in shipped():
        return resource("search_spaces", f"{name_or_path}.yaml")
    path = Path(name_or_path)
    if not path.is_file():
        raise ConfigError(
            f"There is no search space {name_or_path!r}.",
            f"Give the path of a YAML file, or one of: {', '.join(shipped())}.",
        )
    return path


def summaries() -> list[dict[str, Any]]:
    """Return ``name``, ``trials`` and ``description`` of each shipped space."""
    files = [yaml.safe_load(space_path(name).read_text(encoding="utf-8")) for name in shipped()]
    return [{key: file[key] for key in ("name", "trials", "description")} for file in files]

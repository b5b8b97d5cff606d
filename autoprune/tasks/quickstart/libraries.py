"""The classes of the quickstart: libraries that every installation of autoprune has on disk.

Five are hard dependencies of autoprune, and two (networkx, sympy) are hard dependencies of torch.
Left out: Optuna, Click and Rich have too few long docstrings, plotly's are generated, and torch, NumPy
and SciPy cannot be told from transformers, pandas and scikit-learn once the names are blanked.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autoprune.errors import AssetError


@dataclass(frozen=True)
class Library:
    """One class of the quickstart.

    Attributes:
        name: Name of the class, and of the distribution.
        package: Top-level package that holds the sources.
        anywhere: Lower-case names that are blanked even inside other words.
        words: Lower-case names and import aliases that are blanked as whole words.
    """

    name: str
    package: str
    anywhere: tuple[str, ...]
    words: tuple[str, ...] = ()

    def root(self) -> Path:
        """Return the folder of the installed sources, without importing the library.

        Raises:
            AssetError: The library is not installed, or not as plain files.
        """
        spec = importlib.util.find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            raise AssetError(
                f"The quickstart reads docstrings of {self.name}, which is not installed as source files.",
                f"Install it with: pip install {self.name}",
            )
        return Path(spec.submodule_search_locations[0])

    def version(self) -> str:
        """Return the installed version."""
        try:
            return importlib.metadata.version(self.name)
        except importlib.metadata.PackageNotFoundError:
            return "unknown"


LIBRARIES: tuple[Library, ...] = (
    Library("networkx", "networkx", ("networkx",), ("nx",)),
    Library("pandas", "pandas", ("pandas",), ("pd",)),
    Library("ray", "ray", ("rllib",), ("ray",)),
    Library("scikit-learn", "sklearn", ("scikit-learn", "sklearn", "scikit"), ("skl",)),
    Library("sqlalchemy", "sqlalchemy", ("sqlalchemy",), ("sa", "sqla")),
    Library("sympy", "sympy", ("sympy",)),
    Library("transformers", "transformers", ("transformers", "huggingface", "hugging face"), ("hf",)),
)


def name_pattern(libraries: Sequence[Library]) -> re.Pattern[str]:
    """Return the expression that matches every name and alias of all ``libraries``.

    All names leave all texts: if only a library's own name left, the others' would still tell.
    """
    anywhere = "|".join(re.escape(name) for library in libraries for name in library.anywhere)
    words = "|".join(re.escape(name) for library in libraries for name in library.words)
    parts = [f"(?i:{anywhere})"] if anywhere else []
    if words:
        parts.append(f"(?<![A-Za-z0-9])(?i:{words})(?![A-Za-z0-9])")
        # The head of a camel-case name, such as RayActorError.
        heads = "|".join(name.capitalize() for library in libraries for name in library.words if len(name) > 2)
        if heads:
            parts.append(f"(?<![A-Za-z0-9])(?:{heads})(?=[A-Z])")
    return re.compile("|".join(parts))

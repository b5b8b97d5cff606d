"""Parameters of scorers and reducers: frozen dataclasses whose fields say their own ranges."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from autoprune.errors import PolicyError

P = TypeVar("P")


def number(default: float, low: float, high: float, help: str, *, log: bool = False) -> Any:
    """Declare a float field from ``low`` to ``high``."""
    meta = {"low": low, "high": high, "log": log, "help": help}
    return dataclasses.field(default=float(default), metadata=meta)


def whole(default: int, low: int, high: int, help: str) -> Any:
    """Declare an integer field from ``low`` to ``high``."""
    return dataclasses.field(default=default, metadata={"low": low, "high": high, "help": help})


def choice(default: Any, choices: tuple[Any, ...], help: str) -> Any:
    """Declare a field that takes one of ``choices``."""
    return dataclasses.field(default=default, metadata={"choices": choices, "help": help})


def table(help: str) -> Any:
    """Declare a required field that names a table by digest (``sha256:...``)."""
    return dataclasses.field(metadata={"table": True, "help": help})


@dataclasses.dataclass(frozen=True)
class NoParams:
    """The parameters of a method that has none."""


def parse(cls: type[P], given: Mapping[str, Any], what: str) -> P:
    """Build the params dataclass ``cls`` from JSON values.

    Args:
        cls: A frozen dataclass with fields declared by this module's helpers.
        given: Name to value.
        what: What the parameters belong to, for messages, such as ``scorer 'random'``.

    Raises:
        PolicyError: Unknown or missing names, wrong types, or values out of range.
    """
    fields = {field.name: field for field in dataclasses.fields(cast(Any, cls))}
    unknown = sorted(set(given) - set(fields))
    if unknown:
        known = ", ".join(sorted(fields)) or "none"
        raise PolicyError(
            f"The {what} has no parameter {', '.join(map(repr, unknown))}.", f"Known parameters: {known}."
        )
    for name, field in fields.items():
        if name in given:
            _check(given[name], field, f"The {what}'s parameter {name!r}")
        elif field.default is dataclasses.MISSING:
            raise PolicyError(f"The {what} needs the parameter {name!r}.", str(field.metadata.get("help", "")))
    return cls(**given)


def _check(value: Any, field: dataclasses.Field[Any], what: str) -> None:
    meta = field.metadata
    if "choices" in meta:
        # ``True == 1`` in Python, so the type is compared as well.
        if not any(value == one and type(value) is type(one) for one in meta["choices"]):
            raise PolicyError(f"{what} must be one of {', '.join(map(repr, meta['choices']))}, not {value!r}.")
    elif "table" in meta:
        if not isinstance(value, str) or not value.startswith("sha256:"):
            raise PolicyError(f"{what} must be a table digest such as 'sha256:...', not {value!r}.")
    elif "low" in meta:
        _check_number(value, field, what)


def _check_number(value: Any, field: dataclasses.Field[Any], what: str) -> None:
    low, high = field.metadata["low"], field.metadata["high"]
    integer = isinstance(field.default, int)
    if isinstance(value, bool) or not isinstance(value, int if integer else int | float) or not math.isfinite(value):
        raise PolicyError(f"{what} must be a {'whole ' if integer else ''}number, not {value!r}.")
    if not low <= value <= high:
        raise PolicyError(f"{what} must be from {low:g} to {high:g}, not {value!r}.")

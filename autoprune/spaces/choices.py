"""The choices of a space: a scorer, a reducer, or an axis with its values; each is checked with its parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from autoprune._registry import AXES, REDUCERS, SCORERS, Registry
from autoprune.spaces.axis import NOT_YET

if TYPE_CHECKING:
    from autoprune.policy import Stage

_NO_TABLE = "sha256:"


class Strict(BaseModel):
    """Refuses fields that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ScorerChoice(Strict):
    """A scorer with fixed parameters, as one choice of the space."""

    scorer: str
    params: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"scorer": value} if isinstance(value, str) else value

    @field_validator("scorer")
    @classmethod
    def _known(cls, value: str) -> str:
        return _registered(value, SCORERS)

    @field_validator("params")
    @classmethod
    def _fitting(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        return _checked(value, SCORERS, info.data.get("scorer"))

    @property
    def label(self) -> str:
        """The name under which Optuna sees this choice."""
        return label_of(self.scorer, self.params)

    @property
    def needs(self) -> frozenset[str]:
        """What the scorer looks at."""
        return _needs(SCORERS, self.scorer, self.params)


class ReducerChoice(Strict):
    """A reducer with fixed parameters, as one choice of the space."""

    reduce: str
    params: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"reduce": value} if isinstance(value, str) else value

    @field_validator("reduce")
    @classmethod
    def _known(cls, value: str) -> str:
        return _registered(value, REDUCERS)

    @field_validator("params")
    @classmethod
    def _fitting(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        return _checked(value, REDUCERS, info.data.get("reduce"))

    @property
    def label(self) -> str:
        """The name under which Optuna sees this choice."""
        return label_of(self.reduce, self.params)

    @property
    def needs(self) -> frozenset[str]:
        """What the reducer looks at."""
        return _needs(REDUCERS, self.reduce, self.params)

    @property
    def asks(self) -> bool:
        """Whether the reducer looks at the scores of a stage with ``keep``."""
        return bool(REDUCERS.get(self.reduce).uses_scores)


class AxisChoice(Strict):
    """An axis beyond stages, with the values to search."""

    axis: str
    values: list[Any] = Field(min_length=1)

    @field_validator("axis")
    @classmethod
    def _known(cls, value: str) -> str:
        if value in NOT_YET:
            raise ValueError(f"the axis {value!r} cannot be searched yet: {NOT_YET[value]}")
        return _registered(value, AXES)

    @field_validator("values")
    @classmethod
    def _fitting(cls, value: list[Any], info: ValidationInfo) -> list[Any]:
        if "axis" in info.data:
            for one in value:
                AXES.get(info.data["axis"]).check(one)
        return distinct(value)


def label_of(name: str, params: Mapping[str, Any]) -> str:
    """Return the name under which Optuna sees a method with parameters."""
    if not params:
        return name
    inner = ",".join(f"{key}={params[key]}".lower() for key in sorted(params))
    return f"{name}({inner})"


def label_of_stage(stage: Stage) -> str:
    """Return the name under which a space knows the scorer; which table it reads is no part of it."""
    params = {name: value for name, value in stage.params.items() if name != "table"}
    return label_of(stage.scorer, params)


def distinct(values: list[Any]) -> list[Any]:
    """Return a list of choices in which none occurs twice, or raise ``ValueError``."""
    labels = [str(getattr(value, "label", value)) for value in values]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice} is listed twice")
    return values


def _registered(name: str, registry: Registry[Any]) -> str:
    if name not in registry:
        raise ValueError(f"there is no {registry.kind} called {name!r} (known: {', '.join(registry.names())})")
    return name


def _needs(registry: Registry[Any], name: str, params: Mapping[str, Any]) -> frozenset[str]:
    item = registry.get(name)
    tables = {f.name: _NO_TABLE for f in dataclasses.fields(item.Params) if f.metadata.get("table")}
    return frozenset(item(item.Params(**{**tables, **params})).needs)


def _checked(params: dict[str, Any], registry: Registry[Any], name: str | None) -> dict[str, Any]:
    """Return parameters that the method has and takes; fields say their own ranges, as in ``pruning/params.py``."""
    if name is None:
        return params  # the name is refused already
    fields = {f.name: f for f in dataclasses.fields(registry.get(name).Params)}
    for key, value in params.items():
        if key not in fields:
            raise ValueError(f"{name} has no parameter {key!r} (known: {', '.join(fields) or 'none'})")
        meta = fields[key].metadata
        if "choices" in meta and not any(value == one and type(value) is type(one) for one in meta["choices"]):
            raise ValueError(f"{name}'s {key} must be one of {', '.join(map(repr, meta['choices']))}, not {value!r}")
        if "low" in meta:
            _check_number(value, fields[key], f"{name}'s {key}")
    return params


def _check_number(value: Any, field: dataclasses.Field[Any], what: str) -> None:
    low, high = field.metadata["low"], field.metadata["high"]
    kind = int if isinstance(field.default, int) else (int, float)
    if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
        word = "a whole number" if kind is int else "a number"
        raise ValueError(f"{what} must be {word} from {low:g} to {high:g}, not {value!r}")

"""What a search-space file may say, with errors that name the line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from autoprune._registry import REDUCERS, SCORERS
from autoprune.errors import ConfigError
from autoprune.resources import resource


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ScorerChoice(_Strict):
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

    @property
    def label(self) -> str:
        """The name under which Optuna sees this choice."""
        if not self.params:
            return self.scorer
        inner = ",".join(f"{key}={self.params[key]}".lower() for key in sorted(self.params))
        return f"{self.scorer}({inner})"


class InputBlock(_Strict):
    """The stage before the embedding."""

    scorers: list[ScorerChoice] = Field(default_factory=list)


class StagesBlock(_Strict):
    """The stages inside the model."""

    scorers: list[ScorerChoice] = Field(min_length=1)
    reduce: list[str] = Field(default=["drop"], min_length=1)
    count: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0, le=64)]] = (0, 3)
    layers: tuple[Annotated[int, Field(ge=0)], int] = (1, -1)

    @field_validator("reduce")
    @classmethod
    def _known(cls, value: list[str]) -> list[str]:
        return [_registered(name, REDUCERS) for name in value]

    @field_validator("count")
    @classmethod
    def _ordered(cls, value: tuple[int, int]) -> tuple[int, int]:
        if value[0] > value[1]:
            raise ValueError(f"the lower bound {value[0]} is above the upper bound {value[1]}")
        return value


class SpaceFile(_Strict):
    """A search-space file."""

    version: Literal[1]
    name: str
    description: str = ""
    trials: int = Field(default=40, ge=1)
    input: InputBlock = Field(default_factory=InputBlock)
    stages: StagesBlock | None = None
    last_layer: list[Literal["first_token", "full"]] = Field(default=["full"], min_length=1)
    share: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] = (0.5, 1.0)

    @model_validator(mode="after")
    def _something_to_search(self) -> SpaceFile:
        if not self.input.scorers and self.stages is None:
            raise ValueError("the space has neither input scorers nor stages, so there is nothing to search")
        if self.share[0] > self.share[1]:
            raise ValueError(f"share: the lower bound {self.share[0]} is above the upper bound {self.share[1]}")
        return self


def shipped() -> list[str]:
    """Return the names of the spaces that come with autoprune."""
    return sorted(path.stem for path in resource("search_spaces").glob("*.yaml"))


def load_space_file(name_or_path: str) -> SpaceFile:
    """Read a shipped space by name, or any space by path.

    Raises:
        ConfigError: There is no such space, or the file breaks the schema; the line is named.
    """
    path = Path(name_or_path)
    if name_or_path in shipped():
        path = resource("search_spaces", f"{name_or_path}.yaml")
    elif not path.is_file():
        raise ConfigError(
            f"There is no search space {name_or_path!r}.",
            f"Give the path of a YAML file, or one of: {', '.join(shipped())}.",
        )
    return parse_space(path.read_text(encoding="utf-8"), str(path))


def parse_space(text: str, source: str) -> SpaceFile:
    """Read a space from YAML text; ``source`` names it in messages. Raises ``ConfigError``."""
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source} is no valid YAML: {' '.join(str(error).split())}.") from None
    try:
        return SpaceFile.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigError(
            f"{source}, line {_line(tree, first['loc'])}: {place}: {message}.",
            "`autoprune spaces show quick` prints a space that works.",
        ) from None


def _registered(name: str, registry: Any) -> str:
    if name not in registry:
        raise ValueError(f"there is no {registry.kind} called {name!r} (known: {', '.join(registry.names())})")
    return name


def _line(node: Any, location: tuple[int | str, ...]) -> int:
    """Follow a path of keys and indices through the YAML nodes as far as it goes."""
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = next((pair for pair in node.value if pair[0].value == str(part)), None)
            if found is None:
                break
            node = found[1] if isinstance(found[1], yaml.MappingNode | yaml.SequenceNode) else found[0]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
    return int(node.start_mark.line) + 1 if node is not None else 1

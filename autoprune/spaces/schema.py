"""What a search-space file may say, with errors that name the line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from autoprune.errors import ConfigError
from autoprune.spaces.blocks import InputBlock, ProtectBlock, StagesBlock
from autoprune.spaces.choices import AxisChoice, ScorerChoice, Strict, distinct
from autoprune.spaces.listing import shipped, space_path

__all__ = ["AxisChoice", "ScorerChoice", "SpaceFile", "load_space_file", "parse_space", "shipped"]

Share = Annotated[float, Field(gt=0, le=1)]


class SpaceFile(Strict):
    """A search-space file.

    Attributes:
        version: Of the schema.
        name: For people.
        description: In one sentence: what is in it, and for which models.
        trials: Policies that a search tries where it is not told.
        input: The stage before the embedding.
        stages: The stages inside; None for none.
        last_layer: As in the policy.
        protect: Tokens that never leave.
        axes: Further dimensions.
        share: Lowest and highest share of the budget that proposals aim at; some, to draw the whole front, leave it.
    """

    version: Literal[1]
    name: str
    description: str = ""
    trials: int = Field(default=40, ge=1)
    input: InputBlock = Field(default_factory=InputBlock)
    stages: StagesBlock | None = None
    last_layer: list[Literal["first_token", "full"]] = Field(default=["full"], min_length=1)
    protect: ProtectBlock = Field(default_factory=ProtectBlock)
    axes: list[AxisChoice] = Field(default_factory=list)
    share: tuple[Share, Share] = (0.5, 1.0)

    @field_validator("last_layer")
    @classmethod
    def _once(cls, value: list[str]) -> list[str]:
        return distinct(value)

    @field_validator("axes")
    @classmethod
    def _one_each(cls, value: list[AxisChoice]) -> list[AxisChoice]:
        distinct([choice.axis for choice in value])
        return value

    @field_validator("share")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError(f"the lower bound {value[0]} is above the upper bound {value[1]}")
        return value

    @model_validator(mode="after")
    def _something_to_search(self) -> SpaceFile:
        if not self.input.scorers and self.stages is None:
            raise ValueError("the space has neither input scorers nor stages, so there is nothing to search")
        return self


def load_space_file(name_or_path: str) -> SpaceFile:
    """Read a shipped space by name, or any space by path.

    Raises:
        ConfigError: There is no such space, or the file breaks the schema; the line is named.
    """
    path = space_path(name_or_path)
    return parse_space(_text(path), str(path))


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


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The search space {path} cannot be read: {error}.", "It must be YAML in UTF-8.") from None


def _line(node: Any, location: tuple[int | str, ...]) -> int:
    """Follow a path of keys and indices through the YAML nodes as far as it goes; return the line, from 1."""
    line = node.start_mark.line if node is not None else 0
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = next((pair for pair in node.value if pair[0].value == str(part)), None)
            if found is None:
                break
            line, node = found[0].start_mark.line, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line
    return int(line) + 1

"""The blocks of a search-space file."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from autoprune.policy import Protect, Selector
from autoprune.spaces.choices import ReducerChoice, ScorerChoice, Strict, distinct

Whole = Annotated[int, Field(ge=1)]


class MethodBlock(Strict):
    """What both kinds of stages have.

    Attributes:
        select: Selectors: a share of every text, or scores from a threshold or the best that hold a share of the
            score, whose value is solved so that the share kept of calibration texts is what the schedule asks for.
        multiple: Counts are rounded up to a multiple of one of these.
    """

    select: list[Selector] = Field(default=["keep"], min_length=1)
    multiple: list[Whole] = Field(default=[1], min_length=1)

    @field_validator("select", "multiple")
    @classmethod
    def _once(cls, value: list[object]) -> list[object]:
        return distinct(value)


class InputBlock(MethodBlock):
    """The stage before the embedding, which is there or not."""

    scorers: list[ScorerChoice] = Field(default_factory=list)

    @field_validator("scorers")
    @classmethod
    def _early(cls, value: list[ScorerChoice]) -> list[ScorerChoice]:
        for choice in value:
            if choice.needs & {"hidden", "attention"}:
                raise ValueError(f"{choice.scorer} looks inside the model, and nothing has run yet at the input")
        return distinct(value)


class StagesBlock(MethodBlock):
    """The stages inside the model.

    Attributes:
        scorers: One of them scores in all stages.
        reduce: One of them acts in all stages.
        where: One of them holds for all stages.
        count: Lowest and highest number of stages.
        layers: First and last layer a stage may stand at; negative counts from the end.
        schedule: Families of schedules.
    """

    scorers: list[ScorerChoice] = Field(min_length=1)
    reduce: list[ReducerChoice] = Field(default_factory=lambda: [ReducerChoice(reduce="drop")], min_length=1)
    where: list[Literal["before", "after_attention"]] = Field(default=["before"], min_length=1)
    count: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0, le=64)]] = (0, 3)
    layers: tuple[Annotated[int, Field(ge=0)], int] = (1, -1)
    schedule: list[Literal["geometric", "curved", "linear", "free"]] = Field(default=["curved"], min_length=1)

    @field_validator("scorers", "reduce", "where", "schedule")
    @classmethod
    def _no_choice_twice(cls, value: list[object]) -> list[object]:
        return distinct(value)

    @field_validator("count")
    @classmethod
    def _ordered(cls, value: tuple[int, int]) -> tuple[int, int]:
        if value[0] > value[1]:
            raise ValueError(f"the lower bound {value[0]} is above the upper bound {value[1]}")
        return value

    @field_validator("layers")
    @classmethod
    def _forward(cls, value: tuple[int, int]) -> tuple[int, int]:
        if 0 <= value[1] < value[0]:
            raise ValueError(f"the first layer {value[0]} is behind the last one {value[1]}")
        return value

    @model_validator(mode="after")
    def _behind_an_attention(self) -> StagesBlock:
        choices: list[ScorerChoice | ReducerChoice] = [*self.scorers, *self.reduce]
        looking = [choice.label for choice in choices if choice.needs & {"attention", "keys"}]
        if self.layers[0] == 0 and "before" in self.where and looking:
            raise ValueError(f"{looking[0]} looks at the attention of the layer before: layers must begin at 1")
        return self


class ProtectBlock(Strict):
    """Tokens that never leave, as in the policy. A pattern needs a tokenizer; its tokens are not foreseen in costs."""

    prefix: Annotated[int, Field(ge=0)] = 1
    special_tokens: bool = True
    pattern: str | None = None

    @field_validator("pattern")
    @classmethod
    def _regular(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"no regular expression: {error}") from None
        return value

    def protect(self) -> Protect:
        """Return the protection of a policy."""
        return Protect(self.prefix, self.special_tokens, self.pattern)

"""``PruningPolicy``: the complete, immutable, serialisable description of how tokens are removed.

Every method of the literature is a point in scorer x selector x reducer, per stage. This module
knows the grammar and the counts; names of scorers and reducers are checked where they are used.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Literal

from autoprune.errors import PolicyError

POLICY_VERSION = 1
Layer = int | Literal["input"]
Selector = Literal["keep", "threshold", "mass"]
_SCALARS = (str, int, float, bool, type(None))  # JSON gives them back as they are
_COUNT_SLACK = 1e-6  # so that 0.3 * 10 = 3.0000000000000004 keeps 3 tokens, not 4


def _reject_unknown(data: Mapping[str, Any], known: set[str], what: str) -> None:
    unknown = sorted(set(data) - known)
    if unknown:
        raise PolicyError(
            f"The {what} has unknown fields: {', '.join(unknown)}.",
            f"Known fields: {', '.join(sorted(known))}. A newer autoprune may have written it.",
        )


def _frozen(params: Mapping[str, Any]) -> Mapping[str, Any]:
    plain = dict(params)
    if all(type(name) is str and type(value) in _SCALARS for name, value in plain.items()):
        return MappingProxyType(dict(sorted(plain.items())))  # a search makes hundreds of stages per proposal
    return MappingProxyType(json.loads(json.dumps(plain, sort_keys=True)))


def _number(value: Any, what: str, low: float, high: float, *, open_low: bool = False) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise PolicyError(f"{what} must be a number, not {value!r}.")
    if value > high or value < low or (open_low and value == low):
        raise PolicyError(f"{what} must be {'over' if open_low else 'from'} {low:g} to {high:g}, not {value!r}.")
    return float(value)


@dataclass(frozen=True)
class Stage:
    """One step of a policy.

    Attributes:
        layer: 0-based layer, or ``input`` (before the embedding).
        scorer: Name of the scorer.
        keep: Selector: share of the input's real tokens to keep, in (0, 1].
        threshold: Selector: keep scores at or above this; scores are normalised to mean 1 over real tokens.
        mass: Selector: keep the smallest set that holds this share of the score, in (0, 1].
        reduce: Name of the reducer: what happens to the tokens that leave.
        where: ``before`` the layer, or ``after_attention`` inside it.
        multiple: Counts are rounded up to a multiple of this (>= 1).
        params: The scorer's parameters.
        reduce_params: The reducer's parameters.

    Raises:
        PolicyError: A field is out of range, or there is not exactly one selector.
    """

    layer: Layer
    scorer: str
    keep: float | None = None
    threshold: float | None = None
    mass: float | None = None
    reduce: str = "drop"
    where: Literal["before", "after_attention"] = "before"
    multiple: int = 1
    params: Mapping[str, Any] = field(default_factory=dict, hash=False)
    reduce_params: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        self._check_place()
        self._check_selector()
        for name in ("params", "reduce_params"):
            try:
                object.__setattr__(self, name, _frozen(getattr(self, name)))
            except (TypeError, ValueError) as error:
                raise PolicyError(f"Stage field {name!r} must be a JSON object: {error}.") from None

    def _check_place(self) -> None:
        layer = self.layer
        if layer != "input" and (isinstance(layer, bool) or not isinstance(layer, int) or layer < 0):
            raise PolicyError(f"A stage's layer must be 'input' or a whole number from 0, not {layer!r}.")
        if self.where not in ("before", "after_attention"):
            raise PolicyError(f"A stage's where must be 'before' or 'after_attention', not {self.where!r}.")
        if layer == "input" and self.where != "before":
            raise PolicyError("A stage at the input has no attention to come after.", "Leave 'where' out.")
        if not isinstance(self.scorer, str) or not isinstance(self.reduce, str):
            raise PolicyError("A stage's scorer and reduce must be names.")
        if isinstance(self.multiple, bool) or not isinstance(self.multiple, int) or self.multiple < 1:
            raise PolicyError(f"A stage's multiple must be a whole number from 1, not {self.multiple!r}.")

    def _check_selector(self) -> None:
        given = [name for name in ("keep", "threshold", "mass") if getattr(self, name) is not None]
        if len(given) != 1:
            raise PolicyError(f"A stage needs exactly one of keep, threshold and mass, not {given or 'none'}.")
        high = math.inf if given[0] == "threshold" else 1.0
        value = _number(getattr(self, given[0]), f"A stage's {given[0]}", 0.0, high, open_low=given[0] != "threshold")
        object.__setattr__(self, given[0], value)

    def __reduce__(self) -> tuple[Any, ...]:
        # Read-only mappings cannot be pickled, and stages travel to worker processes.
        return Stage.from_dict, (self.to_dict(),)

    @property
    def depth(self) -> tuple[int, int]:
        """Sort key: where in the forward pass the stage acts."""
        return (-1 if self.layer == "input" else int(self.layer), int(self.where == "after_attention"))

    @property
    def selector(self) -> Selector:
        """Which of the three selectors the stage has."""
        if self.keep is not None:
            return "keep"
        return "mass" if self.threshold is None else "threshold"

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Stage:
        """Read a stage; unknown fields are refused with ``PolicyError``."""
        if not isinstance(data, Mapping):
            raise PolicyError(f"A stage must be a JSON object, not {data!r}.")
        _reject_unknown(data, {f.name for f in fields(cls)}, "stage")
        missing = sorted({"layer", "scorer"} - set(data))
        if missing:
            raise PolicyError(f"A stage lacks {' and '.join(missing)}.")
        return cls(**data)

    def to_dict(self) -> dict[str, Any]:
        """Return the stage as JSON types, defaults left out except ``reduce``."""
        out: dict[str, Any] = {"layer": self.layer, "scorer": self.scorer}
        if self.where != "before":
            out["where"] = self.where
        if self.params:
            out["params"] = dict(self.params)
        for name in ("keep", "threshold", "mass"):
            if getattr(self, name) is not None:
                out[name] = getattr(self, name)
        if self.multiple != 1:
            out["multiple"] = self.multiple
        out["reduce"] = self.reduce
        if self.reduce_params:
            out["reduce_params"] = dict(self.reduce_params)
        return out

    def target(self, n_real: int) -> int:
        """Return how many tokens a ``keep`` stage aims at, before bounds.

        Args:
            n_real: Unpadded tokens of the original input, special tokens included.
        """
        if self.keep is None:
            return n_real
        wanted = math.ceil(self.keep * n_real - _COUNT_SLACK)
        return math.ceil(wanted / self.multiple) * self.multiple

    def describe(self) -> str:
        """Return the stage in a few words, such as ``L4 cls_attention .35 fuse``."""
        place = "input" if self.layer == "input" else f"L{self.layer}{'+' if self.where != 'before' else ''}"
        if self.keep is not None:
            amount = f"{self.keep:.2f}"
        elif self.threshold is not None:
            amount = f">={self.threshold:.2f}"
        else:
            amount = f"mass {self.mass:.2f}"
        return f"{place} {self.scorer} {amount}" + ("" if self.reduce == "drop" else f" {self.reduce}")


@dataclass(frozen=True)
class Protect:
    """Tokens that never leave.

    Attributes:
        prefix: The first so many tokens (>= 0).
        special_tokens: The tokenizer's special tokens.
        pattern: Regular expression over token strings, or None.
    """

    prefix: int = 1
    special_tokens: bool = True
    pattern: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.prefix, bool) or not isinstance(self.prefix, int) or self.prefix < 0:
            raise PolicyError(f"protect.prefix must be a whole number from 0, not {self.prefix!r}.")
        if not isinstance(self.special_tokens, bool):
            raise PolicyError(f"protect.special_tokens must be true or false, not {self.special_tokens!r}.")
        if self.pattern is not None:
            try:
                re.compile(self.pattern)
            except (re.error, TypeError) as error:
                raise PolicyError(f"protect.pattern is no regular expression: {error}.") from None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Protect:
        """Read the protection; unknown fields are refused with ``PolicyError``."""
        if not isinstance(data, Mapping):
            raise PolicyError(f"protect must be a JSON object, not {data!r}.")
        _reject_unknown(data, {f.name for f in fields(cls)}, "field protect")
        return cls(**data)

    def to_dict(self) -> dict[str, Any]:
        """Return the protection as JSON types."""
        return {"prefix": self.prefix, "special_tokens": self.special_tokens, "pattern": self.pattern}


@dataclass(frozen=True)
class PruningPolicy:
    """How tokens are removed, stage by stage.

    Attributes:
        stages: In the order in which they act.
        protect: Tokens that never leave.
        last_layer: ``full``, or ``first_token``: the last layer computes the first token alone (exact
            for heads that read only that token).

    Raises:
        PolicyError: Stages out of order, keeps that increase, or an unknown ``last_layer``.
    """

    stages: tuple[Stage, ...] = ()
    protect: Protect = field(default_factory=Protect)
    last_layer: Literal["full", "first_token"] = "full"

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))
        if self.last_layer not in ("full", "first_token"):
            raise PolicyError(f"last_layer must be 'full' or 'first_token', not {self.last_layer!r}.")
        depths = [stage.depth for stage in self.stages]
        if depths != sorted(depths):
            raise PolicyError("Stages must stand in the order of their layers.")
        keeps = [stage.keep for stage in self.stages if stage.keep is not None]
        if any(later > earlier for earlier, later in zip(keeps, keeps[1:], strict=False)):
            raise PolicyError(f"Keeps are shares of the original input and cannot increase: {keeps}.")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PruningPolicy:
        """Read a policy.

        Raises:
            PolicyError: Unknown fields, an unknown version, or a value out of range.
        """
        if not isinstance(data, Mapping):
            raise PolicyError(f"A policy must be a JSON object, not {type(data).__name__}.")
        _reject_unknown(data, {"version", "stages", "protect", "last_layer"}, "policy")
        if data.get("version") != POLICY_VERSION:
            raise PolicyError(
                f"The policy has version {data.get('version')!r}; this autoprune reads version {POLICY_VERSION}.",
                'Update autoprune, or write "version": 1 if the policy was written by hand.',
            )
        stages = data.get("stages", [])
        if not isinstance(stages, list | tuple):
            raise PolicyError("A policy's stages must be a list.")
        return cls(
            stages=tuple(Stage.from_dict(stage) for stage in stages),
            protect=Protect.from_dict(data.get("protect", {})),
            last_layer=data.get("last_layer", "full"),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the policy as JSON types; ``from_dict`` gives it back."""
        return {
            "version": POLICY_VERSION,
            "stages": [stage.to_dict() for stage in self.stages],
            "protect": self.protect.to_dict(),
            "last_layer": self.last_layer,
        }

    def digest(self) -> str:
        """Return the sha256 (hex) of the canonical JSON form; equal policies have equal digests."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def describe(self) -> str:
        """Return the policy in one line for people."""
        parts = [stage.describe() for stage in self.stages]
        if self.last_layer == "first_token":
            parts.append("last layer first token")
        return " > ".join(parts) or "dense"

    @property
    def is_dense(self) -> bool:
        """Whether the policy asks for nothing at all."""
        return not self.stages and self.last_layer == "full"

    def tables(self) -> Iterator[str]:
        """Yield the digest (``sha256:...``) of every table that a stage refers to."""
        for stage in self.stages:
            for value in (*stage.params.values(), *stage.reduce_params.values()):
                if isinstance(value, str) and value.startswith("sha256:"):
                    yield value

    def stage_counts(self, n_real: int, n_protected: int) -> tuple[int, ...]:
        """Return the tokens left after each stage, the fused token included.

        ``threshold`` and ``mass`` stages depend on the scores; here they count as keeping all.

        Args:
            n_real: Unpadded tokens of the original input, special tokens included.
            n_protected: How many of them never leave.
        """
        counts, current = [], n_real
        for stage in self.stages:
            current = min(current, max(n_protected, stage.target(n_real)))
            counts.append(current)
        return tuple(counts)

    def layer_counts(self, n_real: int, n_layers: int, n_protected: int) -> tuple[int, ...]:
        """Return the tokens that enter each layer, for the cost table and the ideal latency.

        A stage ``after_attention`` of layer l shortens layer l + 1 here (half of layer l in truth).

        Args:
            n_real: Unpadded tokens of the original input, special tokens included.
            n_layers: Layers of the model.
            n_protected: How many tokens never leave.
        """
        after = dict.fromkeys(range(-1, n_layers + 1), n_real)
        for stage, count in zip(self.stages, self.stage_counts(n_real, n_protected), strict=True):
            first = stage.depth[0] + stage.depth[1]
            for layer in range(first, n_layers + 1):
                after[layer] = count
        return tuple(after[layer] for layer in range(n_layers))

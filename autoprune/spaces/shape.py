"""``Shape``: a policy up to its scale.

A shape says which stages there are and how the reduction is divided among them; the scale says how
much is removed in all, and is solved from the budget. At scale t the last stage keeps ``exp(-t)`` of
the input; a stage of cumulative weight w keeps ``exp(-t * w)``, or ``1 - w * (1 - exp(-t))`` where the
keeps fall linearly. So t = 0 is dense, and every larger t removes more. Where a stage selects by
threshold or mass this is the share that it is expected to keep: of some texts it keeps more, even all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from autoprune._registry import AXES
from autoprune.policy import Layer, Protect, PruningPolicy, Selector, Stage
from autoprune.spaces.choices import ScorerChoice

LastLayer = Literal["full", "first_token"]
Where = Literal["before", "after_attention"]
_DIGITS = 4  # keeps are rounded, so that policies that differ by nothing have one digest


@dataclass(frozen=True)
class ShapeStage:
    """One stage of a shape: where, how, and the cumulative share of the reduction.

    Attributes:
        layer: As in the policy's stage.
        choice: The scorer with its parameters.
        weight: Share of the whole reduction that is done when this stage is over, over 0 to 1.
        reduce: Name of the reducer.
        reduce_params: The reducer's parameters.
        where: As in the policy's stage.
        multiple: As in the policy's stage.
        select: Which selector the policy's stage has.
    """

    layer: Layer
    choice: ScorerChoice
    weight: float
    reduce: str = "drop"
    reduce_params: Mapping[str, Any] = field(default_factory=dict, hash=False)
    where: Where = "before"
    multiple: int = 1
    select: Selector = "keep"

    def at(self, amount: float, tables: Mapping[str, str]) -> Stage:
        """Return the stage with its selector at an amount in (0, 1], and the table (``sha256:...``) of its scorer."""
        params = dict(self.choice.params)
        if self.choice.scorer in tables:
            params["table"] = tables[self.choice.scorer]
        return Stage(
            self.layer,
            self.choice.scorer,
            keep=amount if self.select == "keep" else None,
            threshold=amount if self.select == "threshold" else None,
            mass=amount if self.select == "mass" else None,
            reduce=self.reduce,
            where=self.where,
            multiple=self.multiple,
            params=params,
            reduce_params=self.reduce_params,
        )


@dataclass(frozen=True)
class Shape:
    """A policy up to its scale.

    Attributes:
        stages: In order; weights are cumulative, increase, and end at 1.
        last_layer: As in the policy.
        linear: Whether keeps, not their logarithms, fall in proportion to the weights.
        protect: As in the policy.
        axes: Name and value on each further axis of the space.
    """

    stages: tuple[ShapeStage, ...]
    last_layer: LastLayer
    linear: bool = False
    protect: Protect = field(default_factory=Protect)
    axes: tuple[tuple[str, Any], ...] = ()

    def keeps(self, scale: float) -> tuple[float, ...]:
        """Return the share of the input that each stage is to leave at a scale, over 0 to 1, not increasing."""
        shares = (self._keep(scale, stage.weight) for stage in self.stages)
        return tuple(max(round(share, _DIGITS), 10**-_DIGITS) for share in shares)

    def policy(self, scale: float, tables: Mapping[str, str]) -> PruningPolicy:
        """Return the policy at a scale; a draft where a stage selects by threshold or mass.

        In a draft the share of ``keeps`` stands where the threshold or mass will be: which value leaves that share,
        only texts can tell (``engine/landscape/expected.py``).

        Args:
            scale: t >= 0; the last stage keeps ``exp(-t)`` of the input.
            tables: Table digest (``sha256:...``) by the scorer that needs it.
        """
        stages = (stage.at(keep, tables) for stage, keep in zip(self.stages, self.keeps(scale), strict=True))
        # Without stages nothing leaves, so that protection would only give one policy several digests.
        protect = self.protect if self.stages else Protect()
        policy = PruningPolicy(tuple(stages), protect, self.last_layer)
        for name, value in self.axes:
            policy = AXES.get(name).apply(policy, value)
        return policy

    def _keep(self, scale: float, weight: float) -> float:
        if self.linear:
            return 1.0 + weight * math.expm1(-scale)
        return math.exp(-scale * weight)

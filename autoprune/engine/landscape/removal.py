"""Policies as numbers: how much is removed before each layer, and by which methods.

The *removal* before layer l is ``-log(keep)`` of what enters it: 0 is dense, log 2 half of the tokens.
It is the natural unit of a schedule, for a shape scaled by t has t times the removal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from autoprune.spaces.choices import label_of, label_of_stage

if TYPE_CHECKING:
    from autoprune.policy import PruningPolicy, Selector
    from autoprune.spaces.space import Shape

Floats = NDArray[np.float64]
NONE = ""


class Method(NamedTuple):
    """How a policy removes tokens, apart from where and how many.

    Attributes:
        before: Label of the scorer at the input, or empty.
        inside: Label of the first scorer inside the model, or empty.
        reduce: Reducer of the first stage inside, or empty.
        select_before: Selector at the input, empty for ``keep``.
        select_inside: Selector of the first stage inside, empty for ``keep``.
    """

    before: str = NONE
    inside: str = NONE
    reduce: str = NONE
    select_before: str = NONE
    select_inside: str = NONE


def removal_of(policy: PruningPolicy, keeps: Sequence[float], n_layers: int) -> Floats:
    """Return the removal before each layer, shape (n_layers,), 0 where all tokens enter.

    A stage after attention counts from the next layer on, as in ``PruningPolicy.layer_counts``.

    Args:
        policy: The policy.
        keeps: Share of the input after each stage, as ``Expected.keeps`` says.
        n_layers: Layers of the model.
    """
    removal = np.zeros(n_layers)
    for stage, keep in zip(policy.stages, keeps, strict=True):
        removal[max(0, sum(stage.depth)) :] = -np.log(keep)
    return removal


def method_of(policy: PruningPolicy) -> Method:
    """Return the method of a policy; stages that keep everything are no part of it."""
    active = [stage for stage in policy.stages if stage.keep != 1.0]
    before = next((s for s in active if s.layer == "input"), None)
    inside = next((s for s in active if s.layer != "input"), None)
    return Method(
        label_of_stage(before) if before else NONE,
        label_of_stage(inside) if inside else NONE,
        label_of(inside.reduce, inside.reduce_params) if inside else NONE,
        _unless_keep(before.selector) if before else NONE,
        _unless_keep(inside.selector) if inside else NONE,
    )


def _unless_keep(selector: Selector) -> str:
    """Return the name of a selector, but nothing for the usual one: having a stage differs in its scorer already."""
    return NONE if selector == "keep" else selector


def weights_of(shape: Shape, n_layers: int) -> Floats:
    """Return the removal of a shape at scale 1, shape (n_layers,)."""
    most = -np.expm1(-1.0)
    weights = np.zeros(n_layers)
    for stage in shape.stages:
        first = 0 if stage.layer == "input" else stage.layer + (stage.where == "after_attention")
        weights[first:] = -np.log1p(-stage.weight * most) if shape.linear else stage.weight
    return weights


def method_of_shape(shape: Shape) -> Method:
    """Return the method of a shape; stages that remove nothing at any scale are no part of it."""
    active = [stage for stage in shape.stages if stage.weight > 0]
    before = next((s for s in active if s.layer == "input"), None)
    inside = next((s for s in active if s.layer != "input"), None)
    return Method(
        before.choice.label if before else NONE,
        inside.choice.label if inside else NONE,
        label_of(inside.reduce, inside.reduce_params) if inside else NONE,
        _unless_keep(before.select) if before else NONE,
        _unless_keep(inside.select) if inside else NONE,
    )


def code(methods: Sequence[Method], names: dict[str, int]) -> NDArray[np.int64]:
    """Return methods as whole numbers, shape (n, 3); ``names`` grows by what it did not know."""
    rows = [[names.setdefault(part, len(names)) for part in method] for method in methods]
    return np.asarray(rows, dtype=np.int64).reshape(len(rows), len(Method._fields))

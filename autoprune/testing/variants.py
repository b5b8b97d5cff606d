"""What the cells of scorer x reducer x family leave open: other selectors, places and parameters of merging.

Each variant is one policy with two stages; a family that cannot carry it has a reason in ``refused``.
"""

from __future__ import annotations

from collections.abc import Callable

from autoprune.errors import AutopruneError
from autoprune.policy import PruningPolicy, Stage
from autoprune.pruning import attach
from autoprune.testing.suite import check_alone, expect
from autoprune.testing.tiny import Inputs, Tiny, build, inputs

VARIANTS: dict[str, Callable[[int], Stage]] = {
    "threshold": lambda layer: Stage(layer, "similarity", threshold=1.0),
    "mass": lambda layer: Stage(layer, "similarity", mass=0.6),
    "after_attention": lambda layer: Stage(layer, "norm", keep=_keep(layer), where="after_attention"),
    "proportional": lambda layer: _merge(layer, proportional=True),
    "keys": lambda layer: _merge(layer, metric="keys"),
}
SELECTORS = ("threshold", "mass")


def _keep(layer: int) -> float:
    return 0.6 if layer < 3 else 0.3


def _merge(layer: int, **how: object) -> Stage:
    return Stage(layer, "norm", keep=_keep(layer), reduce="merge", reduce_params=how)


def variant(name: str) -> PruningPolicy:
    """Return the policy of a variant, with stages at layers 1 and 3."""
    return PruningPolicy(tuple(VARIANTS[name](layer) for layer in (1, 3)))


def refused(recipe: Tiny, name: str) -> str | None:
    """Return why a family cannot carry a variant, or None when it can."""
    if name in SELECTORS and recipe.kind == "mel":
        return "no mask could hide what the rows of a batch lose more or less of"
    try:
        with attach(build(recipe), variant(name)):
            return None
    except AutopruneError as error:
        return error.message


def run_variant(recipe: Tiny, name: str, *, head: bool = False) -> None:
    """A batch, padded and not, equals its rows one by one under a variant.

    Args:
        recipe: Tiny or real model of the family.
        name: Of the variant.
        head: Whether the model has its head.

    Raises:
        AssertionError: What is wrong.
    """
    for batch in _batches(recipe):
        trace = check_alone(recipe, variant(name), batch, head=head)
        expect(len(trace.stages) == 2, f"{name}: a stage did not act.")
        if name in SELECTORS:
            ragged = any(len(set(step.tokens)) > 1 for step in trace.stages)
            expect(ragged, f"{name}: all rows lost the same number, which shows little.")


def _batches(recipe: Tiny) -> list[Inputs]:
    if recipe.batch is not None:
        return [inputs(recipe, recipe.lengths)]  # its texts have lengths of their own
    full = inputs(recipe, [max(recipe.lengths)] * 4, seed=1)
    if "attention_mask" not in full:
        return [full]
    bare = {name: tensor for name, tensor in full.items() if name != "attention_mask"}
    return [inputs(recipe, recipe.lengths), full, bare]

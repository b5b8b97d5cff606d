"""Policies worth trying first: schedules that the literature and our own measurements favour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from autoprune.spaces.space import Shape, ShapeStage, Space

FIRST = "first"


@dataclass(frozen=True)
class Seed:
    """A schedule for any space and depth.

    Attributes:
        before: Scorer at the input; ``FIRST`` is the one that the space lists first, None is no stage.
        weight: Share of the reduction that the input does, if there are cuts behind it.
        cuts: Where the cuts inside stand, as shares of the model's layers; each does the same.
        share: Share of the budget to aim at.
    """

    before: str | None = None
    weight: float = 1.0
    cuts: tuple[float, ...] = ()
    share: float = 1.0


# A static filter in front saves the work of every layer; then one cut, three even cuts, and the
# two together; truncation as the control that every search must beat.
SEEDS: tuple[Seed, ...] = (
    Seed(FIRST),
    Seed(FIRST, 0.6, (0.5,)),
    Seed(FIRST, 0.5, (0.34, 0.5)),
    Seed(cuts=(0.17, 0.34, 0.5)),
    Seed(cuts=(0.17,)),
    Seed("truncate"),
    Seed(FIRST, 0.75, (0.34,), share=0.75),
    Seed(FIRST, 0.6, (0.34, 0.5), share=0.6),
)


def seed_params(space: Space) -> list[dict[str, Any]]:
    """Return complete parameter values for the seeds that this space can express, each once."""
    found: list[dict[str, Any]] = []
    for seed in SEEDS:
        shape = seed_shape(seed, space)
        params = None if shape is None else space.encode(shape, seed.share)
        if params is not None and params not in found:
            found.append(params)
    return found


def control_params(space: Space) -> list[dict[str, Any]]:
    """Return truncation onto the budget, the control that every search must beat, where the space has it."""
    shape = seed_shape(Seed("truncate"), space)
    params = None if shape is None else space.encode(shape, 1.0)
    return [] if params is None else [params]


def seed_shape(seed: Seed, space: Space) -> Shape | None:
    """Return a seed for a space's methods and depth, or None where the space lacks them."""
    stages: list[ShapeStage] = []
    if seed.before is not None:
        label = next((name for name in space.input_labels() if seed.before in (FIRST, name)), None)
        if label is None:
            return None
        stages.append(space.input_stage(label, seed.weight))
    if seed.cuts:
        inside = _cuts(seed, space)
        if not inside:
            return None
        stages += inside
    return Shape(tuple(stages), space.file.last_layer[0])


def _cuts(seed: Seed, space: Space) -> list[ShapeStage]:
    """Return the cuts, those that fall on one layer once, with even parts of what the input leaves to do."""
    if not space.inside_labels():
        return []
    first, last = space.layers[0], space.layers[-1]
    layers = sorted({min(max(round(cut * space.n_layers), first), last) for cut in seed.cuts})
    done = seed.weight if seed.before is not None else 0.0
    weights = [done + (1 - done) * (slot + 1) / len(layers) for slot in range(len(layers) - 1)] + [1.0]
    return [space.stage(layer, space.inside_labels()[0], weight) for layer, weight in zip(layers, weights, strict=True)]

"""Schedules of the literature as constructors of stages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from autoprune.errors import PolicyError
from autoprune.policy import Layer, Stage


def single_cut(layer: Layer, keep: float, scorer: str, **more: Any) -> tuple[Stage, ...]:
    """Return one stage. Sources: FastV (Chen et al., 2024), EAS (2025).

    Args:
        layer: Where the cut is.
        keep: Share of the tokens that stays, in (0, 1].
        scorer: Name of the scorer.
        **more: Other fields of the stage, such as ``reduce`` or ``params``.

    Raises:
        PolicyError: A field is out of range.
    """
    return (Stage(layer=layer, scorer=scorer, keep=keep, **more),)


def free(keeps: Mapping[Layer, float], scorer: str, **more: Any) -> tuple[Stage, ...]:
    """Return a stage per layer with its own keep, that never increases. Source: LAT's gene (Kim and Cho, 2020).

    Args:
        keeps: Layer to share of the original tokens that stays.
        scorer: Name of the scorer.
        **more: Other fields of each stage.

    Raises:
        PolicyError: The keeps increase with depth.
    """
    ordered = sorted(keeps.items(), key=lambda item: -1 if item[0] == "input" else int(item[0]))
    values = [keep for _, keep in ordered]
    if any(later > earlier for earlier, later in zip(values, values[1:], strict=False)):
        raise PolicyError(f"Keeps are shares of the original input and cannot increase: {values}.")
    return tuple(Stage(layer=layer, scorer=scorer, keep=keep, **more) for layer, keep in ordered)


def geometric(layers: Sequence[int], ratio: float, scorer: str, **more: Any) -> tuple[Stage, ...]:
    """Return stages that keep ratio, ratio^2, ... of the original. Source: DynamicViT (Rao et al., 2021).

    Args:
        layers: Layers in order.
        ratio: Share of the current tokens that each stage keeps, in (0, 1].
        scorer: Name of the scorer.
        **more: Other fields of each stage.

    Raises:
        PolicyError: The ratio is out of range.
    """
    if not 0 < ratio <= 1:
        raise PolicyError(f"A geometric schedule needs a ratio in (0, 1], not {ratio!r}.")
    return free({layer: ratio ** (step + 1) for step, layer in enumerate(layers)}, scorer, **more)


def linear(n_layers: int, final: float, scorer: str, *, first: int | None = None, **more: Any) -> tuple[Stage, ...]:
    """Return stages whose keep falls linearly to ``final`` at the last layer. Source: SpAtten (Wang et al., 2021).

    Args:
        n_layers: Layers of the model.
        final: Share that stays at the last layer, in (0, 1].
        scorer: Name of the scorer.
        first: First layer that removes; left out, SpAtten's rule: the first max(3, 15 %) layers keep all.
        **more: Other fields of each stage.

    Raises:
        PolicyError: No layer is left to remove at, or ``final`` is out of range.
    """
    start = max(3, math.ceil(0.15 * n_layers)) if first is None else first
    steps = n_layers - start
    if steps < 1 or not 0 < final <= 1:
        raise PolicyError(f"A linear schedule to {final!r} cannot start at layer {start} of {n_layers}.")
    return free({start + i: 1 - (1 - final) * (i + 1) / steps for i in range(steps)}, scorer, **more)


def constant_removal(
    n_layers: int, n_tokens: int, r: float, scorer: str, *, inflection: float = 0.0, first: int = 1, **more: Any
) -> tuple[Stage, ...]:
    """Return stages that remove about ``r`` tokens each. Source: ToMe's (r, inflection) (Bolya et al., 2023).

    Args:
        n_layers: Layers of the model.
        n_tokens: Tokens of the input that r refers to.
        r: Tokens removed per layer on average (> 0).
        scorer: Name of the scorer.
        inflection: From -1 (most removed early, falling to none) over 0 (constant) to 1 (rising from none).
        first: First layer that removes.
        **more: Other fields of each stage.

    Raises:
        PolicyError: A value is out of range.
    """
    if r <= 0 or n_tokens < 1 or not -1 <= inflection <= 1 or not 0 <= first < n_layers:
        raise PolicyError(
            f"A constant-removal schedule cannot have r {r!r}, inflection {inflection!r}, first {first!r}."
        )
    steps, left, keeps = n_layers - first, float(n_tokens), dict[Layer, float]()
    for i in range(steps):
        tilt = 0.0 if steps == 1 else inflection * (2 * i / (steps - 1) - 1)
        left = max(1.0, left - r * (1 + tilt))
        keeps[first + i] = left / n_tokens
    return free(keeps, scorer, **more)

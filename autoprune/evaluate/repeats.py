"""Layers that hand out what they found before when they are given the very same again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.pruning.state import Run, current_run

Forward = Callable[..., Any]
Call = tuple[tuple[Any, ...], dict[str, Any]]


class Repeats:
    """What the layers of one model found on one batch.

    Nothing is taken on trust about policies: a layer repeats itself where all its arguments are the same to the bit and
    no policy acts inside it. Who watches its attention is shown the same queries and keys again.

    Args:
        layers: The layer modules, each once; a module may run several times in a forward.
        watched: Numbers of the layers whose attention may be watched by a forward to come.
    """

    def __init__(self, layers: Sequence[nn.Module], watched: Collection[int]) -> None:
        self._layers, self._watched = layers, watched
        self._held: dict[int, _Held] = {}
        self._next = self._depth = 0

    @contextmanager
    def forward(self, depth: int) -> Iterator[None]:
        """Return a context for one forward of the model; layers are their plain selves again behind it.

        Args:
            depth: First layers that the next forward may repeat; what deeper ones found is not kept.
        """
        self._next, self._depth = 0, depth
        own = [vars(layer).get("forward") for layer in self._layers]
        for layer in self._layers:
            vars(layer)["forward"] = self._repeating(layer.forward)
        try:
            yield
        finally:
            for layer, before in zip(self._layers, own, strict=True):
                del vars(layer)["forward"]
                if before is not None:
                    vars(layer)["forward"] = before

    def _repeating(self, plain: Forward) -> Forward:
        def forward(*args: Any, **kwargs: Any) -> Any:
            # Counted rather than asked for: where one module serves all layers, it does not know which it is.
            number, self._next = self._next, self._next + 1
            return self._find(number, plain, args, kwargs)

        return forward

    def _find(self, number: int, plain: Forward, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        run, held = current_run(), self._held.pop(number, None)
        if run is not None and run.inside:
            return plain(*args, **kwargs)
        kept = number < self._depth
        if held is not None and held.answers(run, args, kwargs):
            held.show(run)
        else:
            held = _run_layer(plain, run, args, kwargs, remember=kept and number in self._watched)
        if kept:
            self._held[number] = held
        return held.output


@dataclass(frozen=True)
class _Held:
    """What a layer was given and what it found; ``attention`` is the call of its attention function, if remembered."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any
    attention: Call | None

    def answers(self, run: Run | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Say whether the layer would do the same, and what will be looked at is at hand."""
        unseen = run is not None and run.watch is not None and self.attention is None
        return not unseen and _same((self.args, self.kwargs), (args, kwargs))

    def show(self, run: Run | None) -> None:
        """Let whoever watches the layer's attention see it, as our attention functions do."""
        if run is None or run.watch is None or self.attention is None:
            return
        watch, run.watch = run.watch, None
        args, kwargs = self.attention
        watch(_answered, *args, **kwargs)


def _run_layer(
    plain: Forward, run: Run | None, args: tuple[Any, ...], kwargs: dict[str, Any], *, remember: bool
) -> _Held:
    """Run a layer; ``remember`` keeps the call of its attention as well, whoever watches it now."""
    if run is None or not remember:
        return _Held(args, kwargs, plain(*args, **kwargs), None)
    watch = run.watch
    seen: list[Call] = []

    def attend(stock: Forward, *call: Any, **options: Any) -> Any:
        seen.append((call, options))
        return stock(*call, **options) if watch is None else watch(stock, *call, **options)

    run.watch = attend
    output = plain(*args, **kwargs)
    if not seen:
        run.watch = watch  # the model runs on attention functions that are not ours
    return _Held(args, kwargs, output, seen[0] if seen else None)


def _answered(*_args: Any, **_kwargs: Any) -> None:
    """Stand in for the attention function of a layer whose output is known; watchers look at its inputs alone."""


def _same(one: Any, other: Any) -> bool:
    """Say whether two arguments are the same to the bit; what may have a state, such as a cache, never is."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one is other or (_form(one) == _form(other) and torch.equal(one, other))
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(_same, one, other))
    return one is None or (isinstance(one, bool | int | float | str) and one == other)


def _form(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.dtype, tensor.device, tensor.shape, tensor.stride()

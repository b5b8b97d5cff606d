"""Plug-in registries: a new scorer, reducer, task kind or pool is one file and one decorator.

The packages that hold plug-ins are named here as strings and discovered with ``pkgutil`` at the
first look-up, so that a room can ask for the plug-ins of another without importing it.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from autoprune.errors import ConfigError

T = TypeVar("T")


class Registry(Generic[T]):
    """Plug-ins of one kind by name.

    Args:
        kind: What the plug-ins are, in the singular, for messages.
        package: Dotted name of the package whose modules register them.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._items: dict[str, T] = {}
        self._discovered = False

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that files its argument under ``name``.

        Raises:
            ConfigError: The name is taken by something else.
        """

        def decorate(item: T) -> T:
            taken = self._items.get(name)
            if taken is not None and _origin(taken) != _origin(item):
                raise ConfigError(
                    f"Two {self.kind}s are called {name!r}: {_origin(taken)} and {_origin(item)}.",
                    "Rename one of them.",
                )
            self._items[name] = item
            return item

        return decorate

    def get(self, name: str) -> T:
        """Return the plug-in called ``name``.

        Raises:
            ConfigError: There is none; the message lists the known names.
        """
        self._discover()
        if name in self._items:
            return self._items[name]
        near = difflib.get_close_matches(name, self._items, n=1)
        guess = f"Did you mean {near[0]!r}? " if near else ""
        raise ConfigError(
            f"There is no {self.kind} called {name!r}.",
            f"{guess}Known: {', '.join(self.names())}.",
        )

    def names(self) -> list[str]:
        """Return the names of all plug-ins, sorted."""
        self._discover()
        return sorted(self._items)

    def items(self) -> Iterator[tuple[str, T]]:
        """Yield (name, plug-in), sorted by name."""
        for name in self.names():
            yield name, self._items[name]

    def __contains__(self, name: object) -> bool:
        self._discover()
        return name in self._items

    def _discover(self) -> None:
        if self._discovered:
            return
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__, f"{self._package}."):
            importlib.import_module(module.name)
        self._discovered = True


def _origin(item: object) -> str:
    return f"{getattr(item, '__module__', '?')}.{getattr(item, '__qualname__', item)}"


SCORERS: Registry[Any] = Registry("scorer", "autoprune.pruning.scorers")
REDUCERS: Registry[Any] = Registry("reducer", "autoprune.pruning.reducers")
TASKS: Registry[Any] = Registry("task kind", "autoprune.tasks")
POOLS: Registry[Any] = Registry("pool", "autoprune.evaluate.pools")
SAMPLERS: Registry[Any] = Registry("sampler", "autoprune.engine.samplers")
AXES: Registry[Any] = Registry("axis", "autoprune.spaces.axes")

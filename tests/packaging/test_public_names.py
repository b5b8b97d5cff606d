"""The public names of ``import autoprune``."""

import inspect
import types
from typing import Any

import pytest

import autoprune
from autoprune.config import SearchConfig
from autoprune.engine import driver
from autoprune.errors import BudgetError, ConfigError


def test_search_is_the_function_even_after_its_room_was_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(autoprune.search, types.FunctionType)
    seen: list[Any] = []
    monkeypatch.setattr(driver, "search", lambda config, observer: seen.append((config, observer)) or "result")
    assert autoprune.search("m", "d.csv", autoprune.Budget.parse("40%@p95"), seed=3, observer=None) == "result"
    assert seen == [(SearchConfig.of(model="m", dataset="d.csv", budget="40%@p95", seed=3), None)]


def test_bad_arguments_of_search_are_errors_of_ours() -> None:
    with pytest.raises(BudgetError):
        autoprune.search(budget="20")
    with pytest.raises(ConfigError, match="nope"):
        autoprune.search(nope=1)


def test_every_public_name_resolves() -> None:
    for name in autoprune.__all__:
        assert getattr(autoprune, name) is not None
    assert inspect.isfunction(autoprune.load)
    assert inspect.isfunction(autoprune.attach)
    assert set(autoprune.__all__) <= set(dir(autoprune))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        autoprune.no_such_name  # noqa: B018

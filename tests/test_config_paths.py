"""Paths in a search's options: what is stored of a search does not depend on the working directory."""

import hashlib
from pathlib import Path

import pytest

from autoprune.config import SearchConfig


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "quick").mkdir()
    (tmp_path / "texts.csv").touch()
    (tmp_path / "mine.yaml").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_is_there_becomes_absolute(folder: Path) -> None:
    config = SearchConfig.of(model="model", dataset="./texts.csv", space="mine.yaml")
    assert (config.model, config.dataset) == (str(folder / "model"), str(folder / "texts.csv"))
    assert config.space == str(folder / "mine.yaml")
    assert config.defining() == SearchConfig.of(**config.model_dump()).defining()


def test_names_stay_names(folder: Path) -> None:
    config = SearchConfig.of(model="org/name", dataset="imdb:plain", space="quick")
    assert (config.model, config.dataset, config.space) == ("org/name", "imdb:plain", "quick")
    assert SearchConfig.of().model is None


def test_what_was_typed_is_remembered_for_studies_of_early_versions(folder: Path) -> None:
    typed = {"model": "model", "dataset": "./texts.csv"}
    config = SearchConfig.of(**typed).model_copy(update={"trials": 3})
    assert config.defining_as_typed() == config.defining() | typed
    assert SearchConfig.of(space="quick", model=None) == SearchConfig.of()
    assert SearchConfig.of().defining_as_typed() == SearchConfig.of().defining()


def test_the_quickstarts_options_keep_their_digest() -> None:
    # Its default study must be found again by every later version.
    text = str(sorted(SearchConfig.of().defining().items()))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "61e86cd487815e45"

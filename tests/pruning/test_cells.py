"""Every applicable cell of scorer x reducer x family; the whole table runs in ``make test-slow``."""

import json
import warnings
from pathlib import Path

import pytest

from autoprune._registry import REDUCERS, SCORERS
from autoprune.errors import UnsupportedModelError
from autoprune.policy import PruningPolicy
from autoprune.pruning import FAMILIES, attach
from autoprune.pruning.methods import describe_methods, refusal
from autoprune.testing.suite import run_cell, stage, tables
from autoprune.testing.tiny import TINY, build, tiny

FAMILY = {family.name: family for family in FAMILIES}
ALL = [(r.family, s, d) for r in TINY for s in SCORERS.names() for d in REDUCERS.names()]
GOOD = [cell for cell in ALL if refusal(FAMILY[cell[0]], *cell[1:]) is None]
BAD = [cell for cell in ALL if cell not in GOOD]
# Each scorer meets each reducer on BERT; on every other family each method is met at least once.
TURN = {(s, REDUCERS.names()[i % len(REDUCERS.names())]) for i, s in enumerate(SCORERS.names())}
TURN |= {(s, "drop") for s in ("received_attention", "norm", "random", "query_attention")}
QUICK = [cell for cell in GOOD if cell[0] == "BERT" or cell[1:] in TURN]


@pytest.fixture(autouse=True)
def _no_tokenizer_warning():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="autoprune knows no special tokens")
        yield


def test_every_family_has_a_tiny_model() -> None:
    assert {recipe.family for recipe in TINY} == set(FAMILY)


def test_the_committed_table_of_cells_is_current() -> None:
    committed = json.loads((Path(__file__).parent / "cells.json").read_text())
    found = {family["name"]: family["refused"] for family in describe_methods()["families"]}
    assert committed == found, "Write it anew: python -m autoprune.testing.cells > tests/pruning/cells.json"


@pytest.mark.parametrize(("family", "scorer", "reducer"), QUICK)
def test_cell(family: str, scorer: str, reducer: str) -> None:
    recipe = tiny(family)
    run_cell(recipe, scorer, reducer, head=bool(recipe.head))


@pytest.mark.slow
@pytest.mark.parametrize(("family", "scorer", "reducer"), [cell for cell in GOOD if cell not in QUICK])
def test_other_cell(family: str, scorer: str, reducer: str) -> None:
    recipe = tiny(family)
    run_cell(recipe, scorer, reducer, head=bool(recipe.head))


@pytest.mark.parametrize("family", ["BERT", "ModernBERT", "DistilBERT"])
def test_cell_without_a_head_restores(family: str) -> None:
    for scorer, reducer in (("norm", "drop"), ("random", "merge"), ("received_attention", "fuse")):
        run_cell(tiny(family), scorer, reducer, head=False)


@pytest.mark.parametrize(("family", "scorer", "reducer"), BAD)
def test_inapplicable_cell_raises_a_named_error(family: str, scorer: str, reducer: str) -> None:
    model = _models(family)
    with pytest.raises(UnsupportedModelError, match=r"\w"):
        attach(model, PruningPolicy(stages=(stage(scorer, reducer),)), tables=tables()[0])


_CACHE: dict = {}


def _models(family: str):
    if family not in _CACHE:
        _CACHE[family] = build(tiny(family))
    return _CACHE[family]

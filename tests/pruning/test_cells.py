"""Every applicable cell of scorer x reducer x family; the whole table runs in ``make test-slow``."""

import json
import warnings
from pathlib import Path

import pytest
import torch

from autoprune._registry import REDUCERS, SCORERS
from autoprune.errors import UnsupportedModelError
from autoprune.policy import PruningPolicy
from autoprune.pruning import FAMILIES, Family, attach
from autoprune.pruning.methods import describe_methods, refusal
from autoprune.testing.suite import check_device, run_cell, stage, tables
from autoprune.testing.tiny import TINY, build, tiny
from autoprune.testing.variants import SELECTORS, VARIANTS, refused, run_variant

FAMILY = {family.name: family for family in FAMILIES}
ALL = [(r.family, s, d) for r in TINY for s in SCORERS.names() for d in REDUCERS.names()]
GOOD = [cell for cell in ALL if refusal(FAMILY[cell[0]], *cell[1:]) is None]
BAD = [cell for cell in ALL if cell not in GOOD]
# Each scorer meets each reducer on BERT; on every other family each method is met at least once.
TURN = {(s, REDUCERS.names()[i % len(REDUCERS.names())]) for i, s in enumerate(SCORERS.names())}
TURN |= {(s, "drop") for s in ("received_attention", "norm", "random", "query_attention")}
QUICK = [cell for cell in GOOD if cell[0] == "BERT" or cell[1:] in TURN]


REFUSED = {("Whisper encoder", name) for name in SELECTORS}
REFUSED |= {(f.name, "after_attention") for f in FAMILIES if f.after_attention is None}
REFUSED |= {(f.name, name) for f in FAMILIES if f.masks == "causal" for name in ("proportional", "keys")}
REFUSED |= {("DeBERTa-v2", name) for name in ("proportional", "keys")}


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


@pytest.mark.gpu
@pytest.mark.parametrize(("family", "scorer", "reducer"), QUICK)
def test_a_gpu_removes_what_the_cpu_does(
    family: str, scorer: str, reducer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # patches come from convolutions
    recipe = tiny(family)
    check_device(recipe, scorer, reducer, "cuda", head=bool(recipe.head))


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
    with pytest.raises(UnsupportedModelError, match=_reason(FAMILY[family], scorer, reducer)):
        attach(model, PruningPolicy(stages=(stage(scorer, reducer),)), tables=tables()[0])


def _reason(family: Family, scorer: str, reducer: str) -> str:
    """Return what the message must say, from what the methods need and the family lacks."""
    needs = SCORERS.get(scorer).needs if REDUCERS.get(reducer).uses_scores else frozenset()
    if not family.token_ids and "ids" in SCORERS.get(scorer).needs:
        return f"'{scorer}' needs token ids, and {family.name} has none"
    if not family.attention_hook and "attention" in needs:
        return f"{family.name} computes attention by itself"
    if not family.first_token and "first_token" in needs:
        return f"{family.name} has no first token"
    return f"'{reducer}' mixes tokens across the causal order of {family.name}"


@pytest.mark.parametrize("name", list(VARIANTS))
@pytest.mark.parametrize("family", [recipe.family for recipe in TINY])
def test_variant(family: str, name: str) -> None:
    recipe = tiny(family)
    reason = refused(recipe, name)
    if reason is not None:
        assert (family, name) in REFUSED, reason
        return
    run_variant(recipe, name, head=bool(recipe.head))


_CACHE: dict = {}


def _models(family: str):
    if family not in _CACHE:
        _CACHE[family] = build(tiny(family))
    return _CACHE[family]

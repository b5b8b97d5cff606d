"""The behaviour suite on the quickstart's real weights and on real text, where scores tie and spread as in use."""

import pytest

from autoprune._registry import REDUCERS, SCORERS
from autoprune.pruning import family_of
from autoprune.pruning.methods import refusal
from autoprune.testing.real import LENGTHS, quickstart
from autoprune.testing.suite import run_cell
from autoprune.testing.tiny import build, inputs

pytestmark = pytest.mark.slow


def test_the_recipe_is_the_quickstart() -> None:
    recipe = quickstart()
    model = build(recipe, head=True)
    assert family_of(model).name == recipe.family
    assert (type(model).__name__, type(build(recipe)).__name__) == (recipe.head, recipe.base)
    assert [int(row.sum()) for row in inputs(recipe, LENGTHS)["attention_mask"]] == list(LENGTHS)
    assert build(recipe, head=True) is not model


@pytest.mark.parametrize("head", [True, False], ids=["classifier", "encoder"])
@pytest.mark.parametrize("reducer", REDUCERS.names())
@pytest.mark.parametrize("scorer", SCORERS.names())
def test_cell(scorer: str, reducer: str, head: bool) -> None:
    recipe = quickstart()
    reason = refusal(family_of(build(recipe, head=head)), scorer, reducer)
    if reason is not None:
        pytest.skip(reason)
    run_cell(recipe, scorer, reducer, head=head)

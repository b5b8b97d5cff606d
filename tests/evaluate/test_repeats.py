"""Layers that repeat themselves: on every family of the table the outputs are those of plain forwards, to the bit."""

import itertools

import pytest
import torch
from torch import nn

from autoprune.errors import AutopruneError
from autoprune.evaluate.repeats import Repeats
from autoprune.evaluate.sharing import share_out, shared_layers
from autoprune.policy import PruningPolicy
from autoprune.pruning import attach, family_of
from autoprune.testing.suite import arguments, main_output, stage, tables
from autoprune.testing.tiny import TINY, build, inputs, tiny

SCORERS = ("cls_attention", "received_attention", "accumulated_attention", "norm", "random")
REDUCERS = ("drop", "fuse", "merge")


def fitting(model, recipe):
    """Return dense and policies of one and two stages that the model can carry, those that begin alike together."""
    pairs = [(s, r) for i, s in enumerate(SCORERS) for j, r in enumerate(REDUCERS) if (i + j) % 2 == 0]
    found = [PruningPolicy()]
    for (scorer, reducer), first in itertools.product(pairs, (1, 2, 3)):
        head = stage(scorer, reducer, first, 0.6, recipe.vocabulary)
        found += [PruningPolicy((head,)), PruningPolicy((head, stage(scorer, reducer, 3, 0.3, recipe.vocabulary)))]
    inside = stage("random", "drop", 2, 0.5, recipe.vocabulary, where="after_attention")
    found += [PruningPolicy((inside,)), PruningPolicy((inside, stage("norm", "drop", 3, 0.3, recipe.vocabulary)))]
    fits = {p.digest(): p for p in found if carries(model, recipe, p)}
    (ordered,) = share_out(list(fits.values()), 1, recipe.n_layers)
    return ordered


def carries(model, recipe, policy):
    try:
        attach(model, policy, tables=tables(recipe.vocabulary)[0]).detach()
    except AutopruneError:
        return False
    return True


def attached(model, recipe, policy, repeats=None, depth=0):
    """Return the output under a policy, with layers that repeat themselves or without."""
    batch = inputs(recipe, recipe.lengths)
    handle = None if policy.is_dense else attach(model, policy, tables=tables(recipe.vocabulary)[0])
    try:
        with torch.inference_mode():
            if repeats is None:
                return main_output(model(**arguments(model, recipe, batch)))
            with repeats.forward(depth):
                return main_output(model(**arguments(model, recipe, batch)))
    finally:
        if handle is not None:
            handle.detach()


def counted(layers):
    """Return a list that grows by one whenever a layer really runs, and what ends that."""
    runs = []
    ends = [[m for m in layer.modules() if isinstance(m, nn.Linear)][-1] for layer in layers]
    hooks = [end.register_forward_pre_hook(lambda *_: runs.append(1)) for end in ends]
    return runs, lambda: [hook.remove() for hook in hooks]


@pytest.mark.parametrize("recipe", TINY, ids=lambda recipe: recipe.family)
def test_every_family_gives_the_same_output_with_fewer_layers_run(recipe):
    model = build(recipe, head=True)
    policies, layers, n_layers = fitting(model, recipe), family_of(model).layers(model), recipe.n_layers
    plain = [attached(model, recipe, policy) for policy in policies]
    repeats, depths = Repeats(layers, range(n_layers)), [0] * len(policies)
    for i, (policy, following) in enumerate(itertools.pairwise(policies)):
        depths[i] = shared_layers(policy, following, n_layers)
    runs, end = counted(layers)
    found = [attached(model, recipe, p, repeats, depth) for p, depth in zip(policies, depths, strict=True)]
    end()
    for policy, one, other in zip(policies, plain, found, strict=True):
        assert torch.equal(one, other), policy.describe()
    assert len(policies) > 8
    assert len(runs) < 0.8 * n_layers * len(policies)
    assert not repeats._held, "states are held although nothing is to come"
    assert all("forward" not in vars(layer) for layer in layers)


def test_attention_is_not_invented_where_the_layer_ran_without_ours():
    recipe = tiny("BERT")
    model = build(recipe, head=True)
    silent, watching = (PruningPolicy((stage(name, "drop", 3),)) for name in ("norm", "cls_attention"))
    repeats = Repeats(family_of(model).layers(model), {2})
    want = attached(model, recipe, watching)
    attached(model, recipe, silent, repeats, 3)
    assert torch.equal(attached(model, recipe, watching, repeats, 0), want)


def test_another_batch_is_not_mistaken_for_the_one_before():
    recipe = tiny("BERT")
    model = build(recipe, head=True)
    repeats = Repeats(family_of(model).layers(model), ())
    with torch.inference_mode():
        for seed in (0, 1, 0):
            batch = inputs(recipe, recipe.lengths, seed)
            want = main_output(model(**batch))
            with repeats.forward(3):
                assert torch.equal(main_output(model(**batch)), want)


def test_a_layer_that_fails_leaves_the_model_as_it_was():
    recipe = tiny("BERT")
    model = build(recipe, head=True)
    layers = family_of(model).layers(model)

    def own(*args, **kwargs):
        return type(layers[0]).forward(layers[0], *args, **kwargs)

    def fail(*_):
        raise RuntimeError("broken")

    layers[0].forward = own
    layers[2].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="broken"), Repeats(layers, ()).forward(3):
        model(**inputs(recipe, recipe.lengths))
    assert vars(layers[0])["forward"] is own
    assert "forward" not in vars(layers[1])

"""Models that move after a policy was attached: what the engine holds moves along."""

import pytest
import torch

from autoprune.policy import PruningPolicy
from autoprune.pruning import attach, family_of
from autoprune.pruning.placed import Placed
from autoprune.pruning.saliency import Saliency
from autoprune.testing.suite import forward, stage, tables
from autoprune.testing.tiny import build, inputs, tiny

BERT = tiny("BERT")
CPU, META = torch.device("cpu"), torch.device("meta")


def test_tables_follow_the_ids_and_are_moved_once() -> None:
    placed = Placed(torch.ones(3, dtype=torch.bool), {"t": {"count": torch.ones(3)}}, CPU)
    guarded, found = placed.on(META)
    assert guarded is not None
    assert guarded.device == found["t"]["count"].device == META
    assert placed.on(META) == (guarded, found)
    assert placed.on(META)[1] is found


def test_a_tracer_leaves_no_tables_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    placed = Placed(None, {"t": {"count": torch.ones(3)}}, CPU)
    with monkeypatch.context() as patch:
        patch.setattr("autoprune.pruning.placed.is_tracing", lambda: True)
        assert placed.on(META)[1]["t"]["count"].device == META
    assert placed.on(CPU)[1]["t"]["count"].device == CPU


def test_a_model_attached_elsewhere_runs_here() -> None:
    # The CPU machine's way to move a model: attached while its weights were on meta, run once they are on the CPU.
    want, batch = build(BERT, head=True), inputs(BERT)
    model = build(BERT, head=True).to("meta")
    policy = PruningPolicy(stages=(stage("lexicon"), stage("frequency", layer=2, keep=0.4)))
    attach(model, policy, tables=tables()[0])
    model.to_empty(device="cpu")
    model.load_state_dict(want.state_dict())
    for mine, theirs in zip(model.buffers(), want.buffers(), strict=True):
        mine.copy_(theirs)
    with attach(want, policy, tables=tables()[0]):
        assert torch.equal(forward(model, BERT, batch), forward(want, BERT, batch))


def test_the_twin_of_saliency_follows_replaced_tensors() -> None:
    recipe = tiny("Llama")  # its rotary angles are a buffer, which moving a model replaces
    model, batch = build(recipe), inputs(recipe)
    saliency = Saliency(model, family_of(model))
    before = saliency(dict(batch))
    for module in model.modules():
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else buffer * 2
    after = saliency(dict(batch))
    fresh = Saliency(model, saliency._family)(dict(batch))
    assert torch.equal(after, fresh)
    assert not torch.equal(before, after)

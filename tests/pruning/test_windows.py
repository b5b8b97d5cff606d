"""Layers with a window: scores come from the last layer that sees everything, and stay with their tokens."""

import dataclasses

import pytest
import torch
import transformers as hf

from autoprune.errors import PolicyError
from autoprune.policy import PruningPolicy, Stage
from autoprune.pruning import Trace, attach, masks
from autoprune.pruning.plan import layer_kinds
from autoprune.pruning.selectors import take
from autoprune.testing.suite import pruned
from autoprune.testing.tiny import build, inputs, tiny

# One full layer, then three whose queries see one token to each side.
MODERN = dataclasses.replace(
    tiny("ModernBERT"), config=lambda: _config(global_attn_every_n_layers=4, local_attention=2)
)


def _config(**changes: object) -> hf.ModernBertConfig:
    return hf.ModernBertConfig.from_dict({**_plain(), **changes})


def _plain() -> dict:
    drop = ("layer_types", "rope_parameters", "sliding_window")
    return {name: value for name, value in tiny("ModernBERT").config().to_dict().items() if name not in drop}


def _run(*stages: Stage) -> Trace:
    return pruned(build(MODERN), MODERN, PruningPolicy(stages=stages), inputs(MODERN))[1]


def test_the_case_has_windows() -> None:
    assert layer_kinds(build(MODERN)) == ("full_attention", *["sliding_attention"] * 3)


@pytest.mark.parametrize("scorer", ["cls_attention", "received_attention", "entropy"])
def test_a_stage_behind_windows_scores_by_the_last_full_layer(scorer: str) -> None:
    late, early = _run(Stage(3, scorer, keep=0.5)), _run(Stage(1, scorer, keep=0.5))
    assert late.stages[0].kept == early.stages[0].kept
    assert late.stages[0].kept[0] != [*range(9), 19], "this is truncation"


def test_waiting_scores_stay_with_their_tokens() -> None:
    whole = _run(Stage(1, "cls_attention", keep=0.9)).stages[0]
    between = _run(Stage(2, "random", keep=0.6), Stage(3, "cls_attention", keep=0.3)).stages
    assert between[1].scores is not None
    assert whole.scores is not None
    for row, left in enumerate(between[0].kept):
        torch.testing.assert_close(between[1].scores[row, : len(left)], whole.scores[row, left])
        best = sorted(left, key=lambda p, row=row: -float(whole.scores[row, p]))
        inner = [p for p in best if p not in (left[0], left[-1])][: between[1].tokens[row] - 2]
        assert between[1].kept[row] == sorted([left[0], left[-1], *inner])


def test_running_scores_pass_over_windows() -> None:
    stage = Stage(3, "accumulated_attention", keep=0.5, params={"source": "cls"})
    assert _run(stage).stages[0].kept == _run(Stage(1, "cls_attention", keep=0.5)).stages[0].kept


def test_without_a_full_layer_before_the_stage_is_refused() -> None:
    kinds = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
    model = build(dataclasses.replace(MODERN, config=lambda: _config(layer_types=kinds, local_attention=2)))
    with pytest.raises(PolicyError, match="none in full before layer 1"):
        attach(model, PruningPolicy(stages=(Stage(1, "cls_attention", keep=0.5),)))
    with attach(model, PruningPolicy(stages=(Stage(2, "cls_attention", keep=0.5),))):
        pass
    with pytest.raises(PolicyError, match="there is none before layer 0"):
        attach(model, PruningPolicy(stages=(Stage(0, "cls_attention", keep=0.5),)))


def test_rotary_angles_are_gathered_once_for_each_kind_of_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, taken = tiny("ModernBERT"), []
    monkeypatch.setattr(masks, "take", lambda x, index: taken.append(x) or take(x, index))
    kinds = build(recipe).config.layer_types
    assert kinds == ["full_attention", "sliding_attention"] * 2
    pruned(build(recipe), recipe, PruningPolicy(stages=(Stage(0, "random", keep=0.5),)), inputs(recipe))
    assert len(taken) == 2 * 2  # cos and sin of two kinds, for four layers

"""The behaviour suite: what every applicable cell of scorer x reducer x family must do.

Plug-in authors call ``run_cell`` for their scorer or reducer; each check raises ``AssertionError`` in words.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from autoprune.policy import Protect, PruningPolicy, Stage
from autoprune.pruning import TableSet, Trace, attach, family_of
from autoprune.pruning.methods import takes_table
from autoprune.testing.tiny import VOCABULARY, Inputs, Tiny, build, inputs, one_row

TOLERANCE = 1e-5


def expect(condition: bool, message: str) -> None:
    """Raise ``AssertionError`` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise AssertionError(message)


def tables(rows: int = VOCABULARY) -> tuple[TableSet, str]:
    """Return a table set with so many token ids that serves every static scorer, and its key."""
    generator = torch.Generator().manual_seed(5)
    values = torch.rand(rows, generator=generator)
    table = {"importance": values, "count": (values * 50).round(), "stopword": (values > 0.6).float()}
    found = TableSet()
    return found, found.add(table)


def stage(
    scorer: str, reducer: str = "drop", layer: int = 1, keep: float = 0.5, rows: int = VOCABULARY, **more: Any
) -> Stage:
    """Return a stage, its table of ``rows`` token ids filled in if the scorer takes one."""
    params = {**({"table": tables(rows)[1]} if takes_table(scorer) else {}), **more.pop("params", {})}
    return Stage(layer=layer, scorer=scorer, keep=keep, reduce=reducer, params=params, **more)


def policy_of(recipe: Tiny, scorer: str, reducer: str, *cuts: tuple[int, float]) -> PruningPolicy:
    """Return a policy with a stage for each (layer, keep)."""
    stages = (stage(scorer, reducer, layer, keep, recipe.vocabulary) for layer, keep in cuts)
    return PruningPolicy(stages=tuple(stages))


def main_output(output: Any) -> Tensor:
    """Return logits if there are any, else the encoder's last states, else the last states."""
    for name in ("logits", "encoder_last_hidden_state", "last_hidden_state"):
        found = getattr(output, name, None)
        if isinstance(found, Tensor):
            return found
    raise AssertionError(f"{type(output).__name__} has no output to compare.")


def arguments(model: PreTrainedModel, recipe: Tiny, batch: Inputs) -> dict[str, Any]:
    """Return the arguments of a forward; no cache is kept, so that passes do not touch each other."""
    del model
    return {**batch, "use_cache": False} if recipe.kind == "prompt" else dict(batch)


def forward(model: PreTrainedModel, recipe: Tiny, batch: Inputs) -> Tensor:
    """Return the main output without gradients."""
    with torch.no_grad():
        return main_output(model(**arguments(model, recipe, batch)))


def pruned(model: PreTrainedModel, recipe: Tiny, policy: PruningPolicy, batch: Inputs) -> tuple[Tensor, Trace]:
    """Return the main output under a policy, and the trace."""
    with attach(model, policy, tables=tables(recipe.vocabulary)[0]) as handle, handle.record() as trace:
        return forward(model, recipe, batch), trace


def real_part(recipe: Tiny, out: Tensor, row: int, width: int) -> Tensor:
    """Return what is comparable of a padded row: all of it, or its real tokens."""
    if out.dim() < 3 or out.shape[1] == width:
        return out[row]
    return out[row, -width:] if recipe.kind == "prompt" else out[row, :width]


def check_dense(recipe: Tiny, scorer: str, reducer: str, *, head: bool) -> None:
    """All keeps 1.0 with the whole last layer equals dense to the bit."""
    model, batch = build(recipe, head=head), inputs(recipe, recipe.lengths)
    want = forward(model, recipe, batch)
    policy = policy_of(recipe, scorer, reducer, (1, 1.0), (3, 1.0))
    got, trace = pruned(model, recipe, policy, batch)
    expect(bool(torch.equal(want, got)), "All keeps 1.0 changed the output.")
    expect(not trace.stages, "All keeps 1.0 removed tokens.")


def check_counts(recipe: Tiny, scorer: str, reducer: str, *, head: bool) -> None:
    """After each stage as many tokens are left as the policy says, the hidden states are that short, specials stay."""
    model, batch = build(recipe, head=head), inputs(recipe, recipe.lengths)
    policy = policy_of(recipe, scorer, reducer, (1, 0.6), (3, 0.3))
    _, trace = pruned(model, recipe, policy, batch)
    expect(len(trace.stages) == 2, "A stage did not act.")
    for row, before in enumerate(trace.stages[0].before):
        guarded = protected_positions(model, recipe, batch, row, before)
        want = policy.stage_counts(len(before), len(guarded))
        got = tuple(step.tokens[row] for step in trace.stages)
        expect(got == want, f"Row {row} has {got} tokens after the stages, not {want}.")
        for step in trace.stages:
            expect(set(guarded) <= set(step.kept[row]), f"Row {row} lost a protected token.")
            expect(step.kept[row] == sorted(set(step.kept[row])), "Kept positions are not in order.")
    widths = [max(step.tokens) for step in trace.stages]
    want_widths = [trace.layer_lengths[0], widths[0], widths[0], *[widths[1]] * (recipe.n_layers - 3)]
    expect(trace.layer_lengths == want_widths, f"Layers saw {trace.layer_lengths} rows.")


def protected_positions(model: PreTrainedModel, recipe: Tiny, batch: Inputs, row: int, before: list[int]) -> list[int]:
    """Return the positions that a default policy protects in one row."""
    family = family_of(model)
    guarded = set(before[: max(Protect().prefix, family.prefix)])
    if "input_ids" in batch:
        special = recipe.specials | ({VOCABULARY - 1} if family.name == "CLIP text" else set())
        guarded |= {place for place in before if int(batch["input_ids"][row, place]) in special}
    if recipe.kind == "prompt":
        guarded.add(before[-1])
    return sorted(guarded)


def check_rows(recipe: Tiny, scorer: str, reducer: str, *, head: bool) -> None:
    """A padded batch equals the same rows one by one."""
    policy = policy_of(recipe, scorer, reducer, (1, 0.6), (3, 0.3))
    check_alone(recipe, policy, inputs(recipe, recipe.lengths), head=head)


def check_alone(recipe: Tiny, policy: PruningPolicy, batch: Inputs, *, head: bool) -> Trace:
    """A batch equals the same rows one by one; returns what left in the batch."""
    model = build(recipe, head=head)
    together, trace = pruned(model, recipe, policy, batch)
    for row in range(len(together)):
        alone, _ = pruned(model, recipe, policy, one_row(recipe, batch, row))
        part = real_part(recipe, together, row, alone.shape[1])
        gap = float((part - alone[0]).abs().max())
        expect(gap <= TOLERANCE * max(1.0, float(alone.abs().max())), f"Row {row} differs by {gap:.2g} in a batch.")
    return trace


def check_gradients(recipe: Tiny, scorer: str, reducer: str, *, head: bool) -> None:
    """Gradients are there and finite."""
    model, batch = build(recipe, head=head), inputs(recipe, recipe.lengths)
    policy = policy_of(recipe, scorer, reducer, (2, 0.5))
    with attach(model, policy, tables=tables(recipe.vocabulary)[0]):
        loss = main_output(model(**arguments(model, recipe, batch))).square().mean()
        found = torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad], allow_unused=True)
    grads = [g for g in found if g is not None]
    expect(bool(grads), "No parameter got a gradient.")
    expect(all(bool(torch.isfinite(g).all()) for g in grads), "A gradient is not finite.")


def check_detach(recipe: Tiny, scorer: str, reducer: str, *, head: bool) -> None:
    """Detaching restores outputs, class, hooks, configuration and state dict."""
    model, batch = build(recipe, head=head), inputs(recipe, recipe.lengths)
    want, kind, keys = forward(model, recipe, batch), type(model), list(model.state_dict())
    marks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    name = model.config._attn_implementation
    handle = attach(model, policy_of(recipe, scorer, reducer, (1, 0.5)), tables=tables(recipe.vocabulary)[0])
    forward(model, recipe, batch)
    handle.detach()
    expect(type(model) is kind and list(model.state_dict()) == keys, "Class or state dict changed.")
    expect(marks == [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()], "Hooks are left.")
    expect(model.config._attn_implementation == name, "The attention implementation changed.")
    expect(bool(torch.equal(want, forward(model, recipe, batch))), "The detached model is not dense.")


def check_saved(recipe: Tiny, scorer: str, reducer: str, *, head: bool) -> None:
    """A policy and its tables that were written and read again do the same."""
    model, batch = build(recipe, head=head), inputs(recipe, recipe.lengths)
    policy = policy_of(recipe, scorer, reducer, (1, 0.5))
    again = PruningPolicy.from_dict(policy.to_dict())
    want, _ = pruned(model, recipe, policy, batch)
    with attach(model, again, tables=TableSet.from_bytes(tables(recipe.vocabulary)[0].to_bytes())):
        expect(bool(torch.equal(want, forward(model, recipe, batch))), "The reloaded policy does something else.")


def check_device(recipe: Tiny, scorer: str, reducer: str, device: str, *, head: bool = False) -> None:
    """A model on another device removes the same tokens and puts out the same, up to rounding."""
    model, batch = build(recipe, head=head), inputs(recipe, recipe.lengths)
    policy = policy_of(recipe, scorer, reducer, (1, 0.6), (3, 0.3))
    want, here = pruned(model, recipe, policy, batch)
    moved = {name: tensor.to(device) for name, tensor in batch.items()}
    got, there = pruned(model.to(device), recipe, policy, moved)  # type: ignore[arg-type]
    expect([s.kept for s in here.stages] == [s.kept for s in there.stages], f"Other tokens leave on {device}.")
    gap, size = float((got.cpu() - want).abs().max()), max(1.0, float(want.abs().max()))
    expect(gap <= 10 * TOLERANCE * size, f"The output differs by {gap:.2g} on {device}.")


CHECKS: tuple[Callable[..., None], ...] = (
    check_dense,
    check_counts,
    check_rows,
    check_gradients,
    check_detach,
    check_saved,
)


def run_cell(recipe: Tiny, scorer: str, reducer: str, *, head: bool = False) -> None:
    """Run every check on one cell.

    Args:
        recipe: Tiny or real model of the family.
        scorer: Name of the scorer.
        reducer: Name of the reducer.
        head: Whether the model has its head.

    Raises:
        AssertionError: What is wrong, with the name of the check.
    """
    for check in CHECKS:
        try:
            check(recipe, scorer, reducer, head=head)
        except AssertionError as error:
            raise AssertionError(f"{check.__name__}: {error}") from None

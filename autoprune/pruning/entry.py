"""The start of a forward pass: lengths are read once, protection is settled, ids leave."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.errors import DataError, PolicyError
from autoprune.pruning.apply import apply_stage
from autoprune.pruning.attention import is_tracing
from autoprune.pruning.known import known_guarded
from autoprune.pruning.placed import Placed
from autoprune.pruning.plan import Plan
from autoprune.pruning.protect import given_mask
from autoprune.pruning.selectors import take
from autoprune.pruning.state import Run


def argument_names(module: nn.Module) -> list[str]:
    """Return the names of a module's forward parameters, in order."""
    return list(inspect.signature(module.forward).parameters)


def begin(
    plan: Plan, run: Run, shape: tuple[int, int], device: torch.device, mask: Tensor | None, table: Tensor | None
) -> None:
    """Fill the books of a pass; this is where the host reads lengths, once.

    Args:
        plan: The policy, made ready.
        run: The forward pass; ``ids`` are set if there are any.
        shape: Rows and columns of the input, padding included.
        device: Where the input is.
        mask: (B, N), nonzero at real tokens, or None.
        table: (V,) bool, ids that never leave, or None.
    """
    batch, n = shape
    run.length = n
    run.positions = torch.arange(n, device=device).expand(batch, -1)
    tracing = is_tracing()
    if tracing and mask is not None:
        _demand_full(mask)
    valid = None if mask is None or tracing else mask.bool()
    run.protected = _protected(plan, run, valid, table)
    given = given_mask()
    if given is not None:
        if given.shape != (batch, n):
            raise DataError(f"The protection mask has the shape {tuple(given.shape)}, the input {(batch, n)}.")
        run.protected = run.protected | (given.to(device) if valid is None else given.to(device) & valid)
    if tracing:
        run.lengths = [n] * batch
        known = known_guarded()
        run.guessed = table is not None and known is None
        run.guarded = known or [min(n, max(plan.policy.protect.prefix, plan.family.prefix) + plan.guard_last)] * batch
    else:
        counts = run.protected.sum(1) if valid is None else torch.cat((run.protected.sum(1), valid.sum(1)))
        read: list[int] = counts.tolist()
        run.guarded, run.lengths = read[:batch], read[batch:] or [n] * batch
    run.current = list(run.lengths)
    if valid is not None and min(run.lengths) < n:
        run.valid = valid
        run.start = valid.int().argmax(1, keepdim=True)


def _demand_full(mask: Tensor) -> None:
    """Put into a traced graph that nothing may be padded, since it leaves the mask out."""
    if torch._C._get_tracing_state() or (not torch.compiler.is_dynamo_compiling() and torch.onnx.is_in_onnx_export()):
        # Both drop assertions from their graphs, which would then attend to padding in silence.
        raise PolicyError("This exporter cannot check that nothing is padded.", "Export without attention_mask.")
    torch._assert_async(mask.all(), "A compiled or exported pruned model takes rows of one length, without padding.")


def _protected(plan: Plan, run: Run, valid: Tensor | None, table: Tensor | None) -> Tensor:
    if table is not None and run.ids is not None:
        protected = table.index_select(0, run.ids.reshape(-1)).view(run.ids.shape)
    else:
        protected = torch.zeros(run.positions.shape, dtype=torch.bool, device=run.positions.device)
    prefix = max(plan.policy.protect.prefix, plan.family.prefix)
    if valid is None:
        if prefix:
            protected[:, :prefix] = True
        if plan.guard_last:
            protected[:, -1] = True
        return protected
    rank = valid.cumsum(1)
    protected = (protected | (rank <= prefix)) & valid
    if plan.guard_last:
        protected = protected | ((rank == rank[:, -1:]) & valid)
    return protected


def open_pass(plan: Plan, run: Run, kwargs: dict[str, Any], placed: Placed) -> None:
    """Start a pass from the keyword arguments of the core, and change them where ids leave.

    Args:
        plan: The policy, made ready.
        run: The forward pass.
        kwargs: All arguments of the core by name; changed in place.
        placed: What ids are looked up in.
    """
    if plan.family.masks == "none":
        return  # such models ignore masks, whose length may not even be that of the layers
    mask = kwargs.get("attention_mask")
    if mask is not None and (not isinstance(mask, Tensor) or mask.dim() != 2):
        raise PolicyError("A pruned model takes a two-dimensional attention mask.", "Pass the tokenizer's own mask.")
    ids, embeds = (kwargs.get(name) for name in ("input_ids", "inputs_embeds"))
    run.ids = ids if plan.family.token_ids else None
    run.types = kwargs.get("token_type_ids")
    first = next((x for x in (run.ids, embeds, mask, kwargs.get("hidden_states")) if isinstance(x, Tensor)), None)
    if first is None:
        return  # images: the length is known at the first layer
    if run.ids is None:
        _check_ids(plan)
    table, run.tables = placed.on(first.device)
    begin(plan, run, (first.shape[0], first.shape[1]), first.device, mask, table)
    if mask is not None and run.valid is None:
        kwargs["attention_mask"] = None
    for stage in plan.at_input:
        apply_stage(plan, run, stage, None)
    if run.changed:
        _filter(plan, run, kwargs, ids, embeds)
    if not plan.reads_ids:
        run.ids = run.types = None  # nobody looks at them again: no stage needs to carry them along


def _check_ids(plan: Plan) -> None:
    for stage in plan.stages:
        if "ids" in stage.needs:
            raise PolicyError(f"The scorer {stage.stage.scorer!r} needs input_ids, and the model was called without.")


def _filter(plan: Plan, run: Run, kwargs: dict[str, Any], ids: Tensor | None, embeds: Tensor | None) -> None:
    """Cut the inputs to the tokens that are left; they keep their positions."""
    index = run.positions
    positions = kwargs.get("position_ids")
    if positions is None:
        positions = _position_ids(plan, ids, index)
    else:
        positions = take(positions.expand(index.shape[0], -1), index)
    kwargs["position_ids"] = positions
    if ids is not None:
        kwargs["input_ids"] = run.ids
    if embeds is not None:
        kwargs["inputs_embeds"] = take(embeds, index)
    if run.types is not None:
        kwargs["token_type_ids"] = run.types
    kwargs["attention_mask"] = None if run.valid is None else run.valid.long()
    run.changed = False  # the model makes its masks for what is left


def _position_ids(plan: Plan, ids: Tensor | None, index: Tensor) -> Tensor:
    if plan.family.positions == "absolute":
        return index
    padding = plan.padding_id
    if ids is None:
        return index + padding + 1
    real = ids.ne(padding).long()
    return take(real.cumsum(1) * real + padding, index)

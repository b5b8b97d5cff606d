"""A policy made ready for one model: methods looked up, parameters read, inapplicable cells refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from autoprune._registry import REDUCERS, SCORERS
from autoprune.errors import PolicyError, UnsupportedModelError
from autoprune.policy import PruningPolicy, Stage
from autoprune.pruning.attention import backend_of
from autoprune.pruning.context import Reducer, Scorer
from autoprune.pruning.family import Family
from autoprune.pruning.params import parse
from autoprune.pruning.protect import vocabulary_size
from autoprune.pruning.tables import TableSet


@dataclass
class StagePlan:
    """A stage with its methods.

    Attributes:
        index: Position in the policy.
        stage: The stage.
        scorer: The scorer with its parameters.
        reducer: The reducer with its parameters.
        layer: Layer before (or inside) which it acts; 0 for the input.
        watch_layers: Layers whose attention is looked at, ascending; scores of the last one wait for the stage.
        scored: Whether scores are needed at all.
    """

    index: int
    stage: Stage
    scorer: Scorer
    reducer: Reducer
    layer: int
    scored: bool
    watch_layers: tuple[int, ...] = ()

    @property
    def needs(self) -> frozenset[str]:
        """What the scorer looks at, if scores are needed."""
        return self.scorer.needs if self.scored else frozenset()

    @property
    def reads_attention(self) -> bool:
        """Whether anything of the stage looks at an attention call."""
        return "attention" in self.needs or "keys" in self.reducer.needs


@dataclass
class Plan:
    """A policy made ready for one model."""

    policy: PruningPolicy
    family: Family
    n_layers: int
    stages: list[StagePlan]
    tables: dict[str, dict[str, Tensor]]
    restores: bool
    guard_last: bool = False
    padding_id: int = 0
    at_input: list[StagePlan] = field(default_factory=list)
    before: dict[int, list[StagePlan]] = field(default_factory=dict)
    after: dict[int, list[StagePlan]] = field(default_factory=dict)
    watched: dict[int, list[StagePlan]] = field(default_factory=dict)
    sized: bool = False
    backend: str = "sdpa"

    @property
    def shortcut(self) -> bool:
        """Whether the last layer computes the first token alone."""
        return self.policy.last_layer == "first_token"

    @property
    def proportional(self) -> bool:
        """Whether merged tokens count in later attention by their size."""
        return any("bias" in s.reducer.needs for s in self.stages)

    @property
    def claims_attention(self) -> bool:
        """Whether the model must run on our attention functions."""
        return bool(self.watched) or self.shortcut or self.proportional

    @property
    def reads_ids(self) -> bool:
        """Whether a stage behind the input looks at token or segment ids."""
        later = (stage for group in (*self.before.values(), *self.after.values()) for stage in group)
        return any(stage.needs & {"ids", "types"} for stage in later)

    @property
    def salient(self) -> bool:
        """Whether a stage needs gradients."""
        return any("saliency" in s.needs for s in self.stages)


def make_plan(model: PreTrainedModel, policy: PruningPolicy, family: Family, tables: TableSet | None) -> Plan:
    """Look up every method of a policy and check that it can work on the model.

    Raises:
        PolicyError: A layer that is not there, a missing table, or a stage that cannot stand where it does.
        UnsupportedModelError: A method that this family cannot carry.
        ConfigError: An unknown scorer or reducer.
    """
    n_layers = family.n_layers(model)
    kinds = layer_kinds(model)
    stages = [stage_plan(i, stage, family, n_layers, kinds) for i, stage in enumerate(policy.stages)]
    plan = Plan(
        policy=policy,
        family=family,
        n_layers=n_layers,
        stages=stages,
        tables=_tables(policy, stages, tables, model),
        restores=family.restores(model),
        guard_last=family.cached,
        padding_id=int(getattr(model.config, "pad_token_id", None) or 0),
        backend=backend_of(family.core(model)),
    )
    _check_backend(plan)
    _check_shortcut(plan, model)
    _check_model(plan, model)
    for stage in stages:
        _place(plan, stage)
    return plan


def layer_kinds(model: PreTrainedModel) -> tuple[str, ...]:
    """Return what kind of attention each layer has, as the configuration says; () where all are alike."""
    return tuple(map(str, getattr(model.config, "layer_types", None) or ()))


def stage_plan(index: int, stage: Stage, family: Family, n_layers: int, kinds: Sequence[str] = ()) -> StagePlan:
    """Return a stage with its methods looked up.

    Args:
        index: Position of the stage in the policy.
        stage: The stage.
        family: Row of the table of architectures.
        n_layers: Layers of the model.
        kinds: See ``layer_kinds``.

    Raises:
        PolicyError: The stage cannot stand where it does.
        UnsupportedModelError: The family cannot carry a method.
        ConfigError: An unknown scorer or reducer.
    """
    scorer_type, reducer_type = SCORERS.get(stage.scorer), REDUCERS.get(stage.reduce)
    scorer = scorer_type(parse(scorer_type.Params, stage.params, f"scorer {stage.scorer!r}"))
    reducer = reducer_type(parse(reducer_type.Params, stage.reduce_params, f"reducer {stage.reduce!r}"))
    layer = 0 if stage.layer == "input" else int(stage.layer)
    if layer >= n_layers:
        raise PolicyError(f"A stage stands at layer {layer}, but the model has layers 0 to {n_layers - 1}.")
    scored = reducer.uses_scores or stage.keep is None
    plan = StagePlan(index, stage, scorer, reducer, layer, scored)
    _check_family(plan, family)
    if plan.reads_attention:
        plan.watch_layers = _watch_layers(plan, kinds)
    return plan


def _watch_layers(plan: StagePlan, kinds: Sequence[str]) -> tuple[int, ...]:
    """Return the layers that a stage looks at; a scorer passes over those whose queries see a window alone."""
    end = plan.layer + (plan.stage.where == "after_attention")
    scores = "attention" in plan.needs
    seen = [i for i in range(end) if not (scores and i < len(kinds) and "sliding" in kinds[i])]
    if not seen:
        name = plan.stage.scorer if scores else plan.stage.reduce
        raise PolicyError(
            f"{name!r} looks at the attention of an earlier layer, and there is none {'in full ' if end else ''}"
            f"before layer {plan.layer}.",
            "Move the stage to layer 1 or later." if not end else "Move the stage behind a layer with full attention.",
        )
    every = scores and getattr(plan.scorer, "every_layer", False)
    return tuple(seen) if every else (seen[-1],)


def _check_family(plan: StagePlan, family: Family) -> None:
    stage, needs = plan.stage, plan.needs | plan.reducer.needs
    who = f"stage {plan.index} ({stage.describe()})"
    if "ids" in plan.scorer.needs and not family.token_ids:
        raise UnsupportedModelError(f"The scorer {stage.scorer!r} needs token ids, and {family.name} has none ({who}).")
    if needs & {"attention", "keys", "bias"} and not family.attention_hook:
        raise UnsupportedModelError(
            f"{family.name} computes attention by itself, so {who} cannot look at it.",
            "Use a scorer that needs no attention, and a reducer on hidden states.",
        )
    if "first_token" in needs and not family.first_token:
        raise UnsupportedModelError(
            f"{family.name} has no first token that collects the text, which {stage.scorer!r} needs.",
            "Use received_attention or query_attention.",
        )
    if "free_order" in plan.reducer.needs and family.masks == "causal":
        raise UnsupportedModelError(
            f"The reducer {stage.reduce!r} mixes tokens across the causal order of {family.name}.", "Use drop."
        )
    if "hidden" in plan.needs and stage.layer == "input":
        raise PolicyError(
            f"The scorer {stage.scorer!r} needs hidden states, and there are none at the input.",
            "Use layer 1 or later.",
        )
    if plan.reducer.merges and stage.layer == "input":
        raise PolicyError(f"The reducer {stage.reduce!r} needs hidden states, and there are none at the input.")
    if stage.reduce == "fuse" and stage.layer == "input":
        raise PolicyError("The reducer 'fuse' needs hidden states, and there are none at the input.", "Use drop.")
    if stage.where == "after_attention" and family.after_attention is None:
        raise UnsupportedModelError(
            f"{family.name} keeps its residual in the layer, so nothing can leave after attention exactly.",
            "Use where: before.",
        )
    if family.cached and plan.layer == 0:
        raise UnsupportedModelError(
            f"The cache of {family.name} takes its length from layer 0, so no token may leave before layer 1.",
            "Move the stage to layer 1 or later.",
        )


def _check_backend(plan: Plan) -> None:
    """Refuse attention backends whose masks cannot follow the tokens that are left."""
    if not plan.stages:
        return
    hint = "Load the model with attn_implementation='sdpa'."
    if plan.backend == "flex_attention":
        raise UnsupportedModelError("Tokens cannot leave under flex_attention, whose masks are compiled blocks.", hint)
    if "flash" in plan.backend and plan.family.masks == "window":
        # The kernel's window counts the tokens that are left, not the positions they came from.
        raise UnsupportedModelError(f"Tokens of {plan.family.name} cannot leave under {plan.backend}.", hint)


def _check_model(plan: Plan, model: PreTrainedModel) -> None:
    """Refuse stages that this very model's layers cannot carry, though its family can."""
    name = plan.family.name
    stable = bool(getattr(model.config, "do_stable_layer_norm", False))
    if stable and any(s.stage.where == "after_attention" for s in plan.stages):
        raise UnsupportedModelError(
            f"This {name} model normalises before attention, so nothing can leave after attention exactly.",
            "Use where: before.",
        )
    convolves = plan.family.masks == "square" and int(getattr(model.config, "conv_kernel_size", 0) or 0) > 0
    if convolves and any(s.layer == 0 for s in plan.stages):
        raise UnsupportedModelError(
            f"This {name} model mixes the input into layer 0's output by a convolution, so no token may leave before "
            "layer 1.",
            "Move the stage to layer 1 or later.",
        )


def _check_shortcut(plan: Plan, model: PreTrainedModel) -> None:
    if not plan.shortcut:
        return
    family, name = plan.family, type(model).__name__
    if not family.first_rows or not family.reads_first_token(model):
        known = ", ".join(family.heads) if family.first_rows and family.heads else "none of this family"
        raise UnsupportedModelError(
            f"last_layer: first_token is exact only where the head reads the first token alone; {name} does not.",
            f"Use last_layer: full. Heads that can: {known}.",
        )
    if any(s.layer == plan.n_layers - 1 and s.stage.where == "after_attention" for s in plan.stages):
        raise PolicyError("With last_layer: first_token no stage can stand after the last layer's attention.")


def _tables(
    policy: PruningPolicy, stages: list[StagePlan], tables: TableSet | None, model: PreTrainedModel
) -> dict[str, dict[str, Tensor]]:
    found: dict[str, dict[str, Tensor]] = {}
    for key in policy.tables():
        if tables is None or key not in tables:
            raise PolicyError(
                f"The policy refers to the table {key[:19]}..., which was not given.", "Pass tables= to attach."
            )
        found[key] = tables[key]
    for plan in stages:
        _check_columns(plan, found, model)
    return found


def _check_columns(plan: StagePlan, found: dict[str, dict[str, Tensor]], model: PreTrainedModel) -> None:
    columns: tuple[str, ...] = getattr(plan.scorer, "table_columns", ())
    key: Any = plan.stage.params.get("table")
    if not columns or key not in found:
        return
    vocabulary = vocabulary_size(model)
    for name in columns:
        column = found[key].get(name)
        if column is None or column.dim() != 1 or column.shape[0] < vocabulary:
            raise PolicyError(
                f"The scorer {plan.stage.scorer!r} needs a table with {name!r} for each of {vocabulary} token ids."
            )
        if not bool(torch.isfinite(column).all()):
            raise PolicyError(f"The table of the scorer {plan.stage.scorer!r} holds values that are not finite.")


def _place(plan: Plan, stage: StagePlan) -> None:
    if stage.stage.layer == "input" and plan.family.filters_ids and not plan.restores:
        plan.at_input.append(stage)
    else:
        where = plan.after if stage.stage.where == "after_attention" else plan.before
        where.setdefault(stage.layer, []).append(stage)
    for layer in stage.watch_layers:
        plan.watched.setdefault(layer, []).append(stage)
    plan.sized = plan.sized or stage.reducer.merges

"""The sensitivity profile: some tens of one-stage policies on few examples, kept for every later study."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from autoprune.engine.landscape.harm import HarmModel, Probe
from autoprune.evaluate.evaluator import Job
from autoprune.evaluate.sharing import share_out
from autoprune.policy import PruningPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from autoprune.engine.events import Observer
    from autoprune.engine.scoreboard import Scoreboard
    from autoprune.evaluate.pool import Pool
    from autoprune.spaces.space import ShapeStage, Space

EXAMPLES = 64
_KEEPS = (0.5, 0.2)
_ONE = (0.2,)
_MOST_LAYERS = 24
_CONTROLS = ("random", "uniform")  # nobody hopes that these are best inside: no probe is spent on them
Label = str
Plan = dict[Label, list[tuple[int, PruningPolicy]]]


def profile_policies(space: Space, tables: Mapping[str, str]) -> Plan:
    """Return the one-stage policies to probe, with their layer (0: the input), by scorer label."""
    plan: Plan = {label: _probes(0, space.input_stage(label), tables) for label in space.input_labels()}
    for label in space.inside_labels():
        for layer, keeps in _depths(space).items():
            stage = space.stage(layer, label, 1.0)
            if stage.choice.scorer not in _CONTROLS:
                plan.setdefault(label, []).extend(_probes(layer, stage, tables, keeps))
    return plan


def _depths(space: Space) -> dict[int, Sequence[float]]:
    """Return the layers to probe, with keeps: several at three layers that span them, one at the others.

    Neighbours can differ a lot in what a cut before them harms, and a schedule is as good as its layers. What all
    layers before a cut compute is shared by the whole profile, and few tokens are left behind it.
    """
    layers = space.layers
    if not layers:
        return {}
    some = np.unique(np.linspace(0, len(layers) - 1, min(len(layers), _MOST_LAYERS)).round().astype(int))
    anchors = {layers[0], layers[len(layers) // 3], layers[2 * len(layers) // 3]}
    return {layer: _KEEPS if layer in anchors else _ONE for layer in sorted({*anchors, *(layers[i] for i in some)})}


def _probes(
    layer: int, stage: ShapeStage, tables: Mapping[str, str], keeps: Sequence[float] = _KEEPS
) -> list[tuple[int, PruningPolicy]]:
    # Whatever the space selects by: the curve is over removal, and serves all spaces that have the scorer.
    plain = replace(stage, select="keep")
    return [(layer, PruningPolicy((plain.at(keep, tables),))) for keep in keeps]


def run_profile(
    plan: Plan, n_layers: int, pool: Pool, scoreboard: Scoreboard, observer: Observer
) -> dict[Label, list[Probe]]:
    """Score the plan's policies on the first examples, a group of them on each worker; layers that they share run once.

    A policy that fails leaves no probe; the search meets its scorer anyway and tells why it fails.

    Args:
        plan: What to probe.
        n_layers: Layers of the model.
        pool: Scores policies.
        scoreboard: Knows dense.
        observer: Told of progress.

    Returns:
        (layer, removal, mean KL) by scorer label.
    """
    size = min(EXAMPLES, scoreboard.n_examples)
    policies = {policy.digest(): policy for probes in plan.values() for _, policy in probes}
    observer.phase("profile", len(policies))
    for group in share_out(list(policies.values()), pool.workers, n_layers):
        pool.submit(*(Job(policy.digest(), policy, 0, size) for policy in group))
    kl: dict[str, float] = {}
    failed = []
    while pool.pending:
        outcome = pool.next()
        observer.advance()
        found = float("nan") if outcome.logits is None else float(np.mean(scoreboard.kl_of(outcome.logits)))
        if math.isfinite(found):
            kl[outcome.job.key] = found
        else:
            failed.append(outcome.error or "its logits are not finite")
    if failed:
        observer.message(f"profile    {len(failed)} of {len(policies)} probes failed, the last one so: {failed[-1]}")
    return {
        label: [(layer, _removal(policy), kl[policy.digest()]) for layer, policy in probes if policy.digest() in kl]
        for label, probes in plan.items()
    }


def kept_profile(
    load: Callable[[], dict[str, Any] | None],
    save: Callable[[dict[str, Any]], None],
    measure: Callable[[], dict[Label, list[Probe]]],
    plan: Plan,
) -> HarmModel:
    """Return the harm model from the stored profile if it covers the plan; else measure and store it.

    A label whose probes did not all come back serves this sitting alone: a worker that died must not leave
    a scorer without its profile for good. What other spaces probed of the same scorer stays.
    """
    known = load() or {}
    if not all(_covers(known.get(label, ()), probes) for label, probes in plan.items()):
        found = {label: _joined(known.get(label, ()), probes) for label, probes in measure().items()}
        save({**known, **{label: probes for label, probes in found.items() if _covers(probes, plan[label])}})
        known = {**known, **found}
    return HarmModel.fit({label: [tuple(probe) for probe in known[label]] for label in plan})


def _place(layer: int, removal: float) -> tuple[int, float]:
    return layer, round(removal, 6)


def _covers(known: Sequence[Sequence[Any]], plan: Sequence[tuple[int, PruningPolicy]]) -> bool:
    places = {_place(layer, removal) for layer, removal, _ in known}
    return {_place(layer, _removal(policy)) for layer, policy in plan} <= places


def _joined(old: Sequence[Sequence[Any]], new: Sequence[Probe]) -> list[list[Any]]:
    """Return all probes; of two of one place the new one."""
    places = {_place(layer, removal): [layer, removal, kl] for layer, removal, kl in (*old, *new)}
    return list(places.values())


def _removal(policy: PruningPolicy) -> float:
    return -math.log(policy.stages[0].keep or 1.0)

"""Gives the model-based sampler its guide, and every sampler its first proposals."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, get_args

from autoprune.engine.landscape.guide import Guide
from autoprune.engine.landscape.planning import Plan
from autoprune.engine.profiling import kept_profile, profile_policies, run_profile
from autoprune.engine.proposals import Start
from autoprune.engine.samplers.autoprune import AutopruneSampler
from autoprune.engine.seeds import control_params, seed_params
from autoprune.policy import Selector

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import optuna

    from autoprune.engine.events import Observer
    from autoprune.engine.landscape.harm import HarmModel
    from autoprune.engine.projection import Projector
    from autoprune.engine.scoreboard import Scoreboard
    from autoprune.engine.session import Session
    from autoprune.evaluate.pool import Pool
    from autoprune.spaces.space import Shape, Space
    from autoprune.store.repository import Store

_SHARES = (1.0, 0.85, 0.7, 0.6, 0.5)  # of the budget: the front below it is drawn as well
_METHODS = 3  # best methods tried on the budget itself; below it the best one
_MIXED = (0.9, 0.7)  # of the budget, for schedules of two methods
_LOOSER = (1 / 3, 2 / 3)  # of the way from the budget to dense: whoever asks for a looser budget later has an answer
_LONG = 40  # policies from which on a search draws the rest of the front as well
_FASTER = (1 / 3, 2 / 3, 1.0)  # of the way from the least share of the budget to the floor, in a long search
_ROOM = 1.1  # dense is at least so many budgets, or nothing lies between them


def open_profile(
    session: Session, store: Store, pool: Pool, scoreboard: Scoreboard, tables: Mapping[str, str], observer: Observer
) -> HarmModel:
    """Return what single stages of this space do to this model on this data, measured once for all studies."""
    plan = profile_policies(session.space, tables)
    place = (session.task.model_digest, f"harm:{session.task.fingerprint}:{','.join(sorted(tables.values()))}")
    return kept_profile(
        lambda: store.get_profile(*place),
        lambda found: store.put_profile(*place, found),
        lambda: run_profile(plan, session.space.n_layers, pool, scoreboard, observer),
        plan,
    )


def make_guide(
    space: Space, projector: Projector, limit_ms: float, floor_ms: float, harm: HarmModel, trials: int
) -> Guide:
    """Return the guide for one budget and so many policies: many draw the whole front, from the floor to dense."""
    return Guide(space, projector, limit_ms, floor_ms, harm, deep=trials >= _LONG)


def guide_sampler(study: optuna.Study, guide: Guide) -> None:
    """Hand the guide to the study's sampler if that can use one."""
    if isinstance(study.sampler, AutopruneSampler):
        study.sampler.guide = guide


def first_proposals(study: optuna.Study, guide: Guide) -> list[Start]:
    """Return what is proposed first: the profile's solutions and the control, or for other samplers the seeds.

    Args:
        study: The study, whose sampler matters.
        guide: The space with its costs and harm.
    """
    if not isinstance(study.sampler, AutopruneSampler) or not guide.harm.curves:
        return [Start(params) for params in seed_params(guide.space)]
    space, shares, first = guide.space, _shares(guide, _SHARES), planned(guide)
    outside = [*looser_aims(guide), *(faster_aims(guide) if guide.deep else ())]
    return [
        *first,
        *(_aimed(space, aim) for aim in (*(shares[1:] if first else shares), *outside[:1])),
        *untold(guide),
        *(Start(params) for params in control_params(space)),
        *(_aimed(space, aim) for aim in outside[1:]),
    ]


def planned(guide: Guide) -> list[Start]:
    """Return the profile's best schedules on the budget."""
    plans = guide.planner.plans(guide.limit_ms, _shares(guide, _SHARES)[:1], _METHODS)
    return _starts(guide.space, plans)


def untold(guide: Guide) -> list[Start]:
    """Return schedules of which the profile tells nothing: of two methods, and by other selectors.

    They come after some on the front, which stop what cannot reach it early.
    """
    best = guide.planner.plans(guide.limit_ms, _shares(guide, _SHARES)[:1], 1)
    mixed = [Plan(shape, share, 0.0) for share in _shares(guide, _MIXED) for shape in guide.planner.mixed()]
    others = [Plan(shape, plan.share, plan.harm) for plan in best for shape in _other_selectors(plan.shape)]
    return _starts(guide.space, [*mixed, *others])


def _shares(guide: Guide, wanted: Sequence[float]) -> list[float]:
    """Return shares of the budget, moved into the space's range, the largest first."""
    low, high = guide.space.file.share
    return sorted({min(max(share, low), high) for share in wanted}, reverse=True)


def _aimed(space: Space, aim: float) -> Start:
    """Return a start for so many budgets whose schedule the sampler chooses, by what the ones before have told."""
    low, high = space.file.share
    share = min(max(aim, low), high)
    return Start({"share": share}, aim / share)


def _starts(space: Space, plans: Sequence[Plan]) -> list[Start]:
    """Return the plans that the space can express; what is outside its shares of the budget is left to the aim."""
    found = [(space.encode(plan.shape, plan.share), plan.share) for plan in plans]
    return [Start(params, share / params["share"]) for params, share in found if params is not None]


def looser_aims(guide: Guide) -> list[float]:
    """Return latencies between the budget and dense, in budgets: the front above the budget is drawn as well."""
    room = guide.surface.dense_ms / guide.limit_ms
    return [room**part for part in _LOOSER] if room >= _ROOM else []


def faster_aims(guide: Guide) -> list[float]:
    """Return latencies between the space's least share of the budget and the lowest that is aimed at, in budgets."""
    low = guide.space.file.share[0]
    room = guide.lowest_ms / (low * guide.limit_ms)
    return [low * room**part for part in _FASTER] if room * _ROOM <= 1 else []


def _other_selectors(shape: Shape) -> Iterator[Shape]:
    """Yield the shape with each other selector in all of its stages, which the profile knows nothing of."""
    for name in get_args(Selector):
        stages = tuple(replace(stage, select=name) for stage in shape.stages)
        if stages != shape.stages:
            yield replace(shape, stages=stages)

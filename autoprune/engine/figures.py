"""The figures of every trial, read back from the store: what fronts, results and exports are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from autoprune.engine.decision import decide
from autoprune.front.hypervolume import hypervolume
from autoprune.front.pareto import non_dominated, pick_best

if TYPE_CHECKING:
    from autoprune.store.repository import Store
    from autoprune.store.rows import StoredEvaluation, StoredMeasurement, TrialCost, TrialPoint

Row = dict[str, Any]
STATISTICS = ("p50", "p95", "mean")


def dense_anchor(store: Store, study: str) -> dict[str, float] | None:
    """Return the study's dense latency in ms by statistic, as the probe measured it; None before that."""
    # The probe's measurement belongs to trial 0, so a study of a million trials is not read for it.
    found = [cost for cost in store.trial_costs(study, [0]).get(0, ()) if cost.kind == "probe"]
    return {name: float(found[0].stats["dense"][name]) for name in STATISTICS} if found else None


def rows(store: Store, study: str) -> list[Row]:
    """Return one row per finished trial, dense (trial 0) first, with the figures that were told."""
    anchor = dense_anchor(store, study)
    if anchor is None:
        return []
    quality = {
        e.trial: e for e in reversed(store.evaluations(study, samples=False)) if e.complete and e.trial is not None
    }
    told: dict[int, StoredMeasurement] = {}
    verified: dict[str, StoredMeasurement] = {}
    for cost in store.measurements(study, samples=False):
        if cost.kind == "verify":
            verified[cost.digest] = cost
        elif cost.kind in ("probe", "search") and cost.trial is not None:
            told.setdefault(cost.trial, cost)
    out = []
    for trial in sorted(set(quality) & set(told)):
        cost, policy = told[trial], store.get_policy(told[trial].digest) or {}
        out.append(row(trial, policy, quality[trial], cost, latency(cost, anchor), verified.get(cost.digest)))
    return out


def rows_of(store: Store, study: str, points: Sequence[TrialPoint], anchor: Mapping[str, float]) -> list[Row]:
    """Return the rows of a few trials alone, as ``rows`` gives them, however many the study has.

    Args:
        store: The open database.
        study: Name of the study.
        points: The trials, as ``store.front`` gives them.
        anchor: See ``dense_anchor``.
    """
    costs = store.trial_costs(study, [point.trial for point in points])
    out = []
    for point in points:
        told = next(cost for cost in costs[point.trial] if cost.kind in ("probe", "search"))
        checks = [cost for cost in costs[point.trial] if cost.kind == "verify"]
        told_ms = _shares(told.stats, anchor, point.statistic, point.latency_ms)
        out.append(row(point.trial, point.policy, point, point, told_ms, checks[-1] if checks else None))
    return out


def row(
    trial: int,
    policy: Mapping[str, Any],
    quality: StoredEvaluation | TrialPoint,
    cost: StoredMeasurement | TrialPoint,
    told_ms: Mapping[str, float],
    check: StoredMeasurement | TrialCost | None,
) -> Row:
    """Return one trial's figures, in the form of the result's ``best``.

    Args:
        trial: Optuna's trial number.
        policy: As JSON types.
        quality: What was told of its score.
        cost: What was told of its latency.
        told_ms: Its latency by statistic.
        check: Its verification, or None.
    """
    ratio = float(cost.ratio or 1.0)
    return {
        "trial": trial,
        "policy": dict(policy),
        "digest": cost.digest,
        "latency_ms": dict(told_ms),
        "ratio": ratio,
        "ratio_ci95": [cost.ratio_lo, cost.ratio_hi],
        "speedup": 1.0 / ratio,
        "score": quality.score,
        "drop": quality.drop,
        "drop_ci95": [quality.drop_lo, quality.drop_hi],
        "kl": quality.kl,
        "agreement": quality.agreement,
        "flops_ratio": check.flops_ratio if check else cost.flops_ratio,
        "end_to_end_ms": check.end_to_end_ms if check else cost.end_to_end_ms,
        "verified": check is not None,
    }


def latency(cost: StoredMeasurement, anchor: Mapping[str, float]) -> dict[str, float]:
    """Return p50, p95 and mean in ms: each paired ratio times the study's dense latency."""
    return _shares(cost.stats, anchor, cost.statistic, cost.latency_ms)


def _shares(
    stats: Mapping[str, Any], anchor: Mapping[str, float], statistic: str, told_ms: float | None
) -> dict[str, float]:
    policy, dense = stats["policy"], stats["dense"]
    figures = {name: float(policy[name]) / float(dense[name]) * anchor[name] for name in STATISTICS}
    # To the bit what Optuna was told, not a product that rounds differently.
    return figures if told_ms is None else {**figures, statistic: told_ms}


def with_verified(told: Row, check: StoredMeasurement, anchor: Mapping[str, float]) -> Row:
    """Return the row with the latency of its verification instead of the one that was told."""
    ratio = float(check.ratio or 1.0)
    return {
        **told,
        "latency_ms": latency(check, anchor),
        "ratio": ratio,
        "ratio_ci95": [check.ratio_lo, check.ratio_hi],
        "speedup": 1.0 / ratio,
        "verified": True,
    }


def feasible(found: Row, limit_ratio: float) -> bool:
    """Say whether the interval's upper end is within the limit."""
    return decide(found["ratio_ci95"], limit_ratio, noisy=False) == "met"


def front_rows(found: Iterable[Row], limit_ratio: float, statistic: str) -> list[Row]:
    """Return the feasible, non-dominated rows, fastest first; what Optuna's ``best_trials`` holds."""
    inside = [r for r in found if feasible(r, limit_ratio)]
    chosen = non_dominated([r["latency_ms"][statistic] for r in inside], [r["score"] for r in inside])
    return sorted((inside[i] for i in chosen), key=lambda r: (r["latency_ms"][statistic], r["trial"]))


def volume(front: Sequence[Row]) -> float:
    """Return the hypervolume of a front in (share of dense latency) x score, against (1, 0)."""
    return hypervolume([r["ratio"] for r in front], [r["score"] for r in front], latency_reference=1.0)


def best_row(found: Iterable[Row], limit_ratio: float, statistic: str) -> Row | None:
    """Return the row of the highest score within the limit; ties go to the faster one."""
    inside = [r for r in found if feasible(r, limit_ratio)]
    index = pick_best([r["latency_ms"][statistic] for r in inside], [r["score"] for r in inside])
    return None if index is None else inside[index]


def nearest_infeasible(found: Iterable[Row], limit_ratio: float) -> Row | None:
    """Return the row over the limit whose interval reaches least above it, with its gap, or None."""
    outside = [r for r in found if not feasible(r, limit_ratio)]
    return min(outside, key=lambda r: (r["ratio_ci95"][1], -r["score"])) if outside else None

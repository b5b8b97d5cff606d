"""A made-up finished search in a store: for tests of stores, reports and dashboards, and for looking at them."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna

from autoprune.front.hypervolume import hypervolume
from autoprune.latency.timing import PairedTiming
from autoprune.policy import PruningPolicy, Stage
from autoprune.store.optuna_study import open_optuna_study, set_constraint
from autoprune.store.repository import Store
from autoprune.store.rows import EvaluationRow, FrontRow, MeasurementRow, StudyRecord, TrialPoint

DENSE_MS = 48.0
DENSE_SCORE = 0.94
_LAYERS = 6
_SCORERS = ("lexicon", "cls_attention", "truncate", "random")


@dataclass(frozen=True)
class MadeStudy:
    """A made-up study and the generator behind its figures.

    Attributes:
        name: Name of the study.
        limit_ms: Its budget.
        n_trials: Trials after dense.
    """

    name: str
    limit_ms: float
    n_trials: int


def study_record(name: str, limit_ms: float = 20.0) -> StudyRecord:
    """Return the record of a made-up study; its facts look like real ones."""
    return StudyRecord(
        name=name,
        search_key=hashlib.sha256(name.encode()).hexdigest(),
        task={"name": "minilm-docstrings", "dataset": "docstrings", "metric": "accuracy", "n_examples": 1000},
        model={"name": "all-MiniLM-L6-v2", "digest": "53aa51172d142c89", "family": "bert", "n_layers": _LAYERS},
        workload={"batch_size": 1, "lengths": [256] * 8, "dtype": "float32", "device": "cpu", "threads": 1,
                  "attention": "sdpa", "runtime": "eager", "describe": "batch 1, 256 tokens, float32, cpu, 1 thread"},
        hardware={"digest": "c0ffee0123456789", "describe": "Example CPU, 2 cores, 24 GB", "cpu": "Example CPU"},
        budget={"text": f"{limit_ms:g}ms", "statistic": "p50", "limit_ms": limit_ms},
        config={"options": {"sampler": "tpe", "seed": 0}, "probe": probe_facts()},
        versions={"autoprune": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0", "optuna": optuna.__version__},
    )  # fmt: skip


def probe_facts() -> dict[str, Any]:
    """Return a probe's result as it is stored: dense, sweep, floor and cost table."""
    tokens = [16, 32, 64, 96, 128, 160, 192, 224, 256]
    sweep = [{"tokens": n, "ms": layer_ms(n) * _LAYERS + 1.5} for n in tokens]
    return {
        "dense": {"p50": DENSE_MS, "p95": DENSE_MS * 1.08, "mean": DENSE_MS * 1.01},
        "sweep": [
            point | {"ratio": point["ms"] / DENSE_MS, "ratio_ci": [point["ms"] / DENSE_MS * f for f in (0.98, 1.02)]}
            for point in sweep
        ],
        "floor_ms": 4.2,
        "floor_ratio": 4.2 / DENSE_MS,
        "cost_table": {
            "tokens": tokens, "layers": [[layer_ms(n) for n in tokens] for _ in range(_LAYERS)], "rest_ms": 1.5,
        },
        "scorer_ms": {"lexicon": 0.02, "cls_attention": 0.31},
        "notes": ["64 and 96 tokens cost the same"],
    }  # fmt: skip


def layer_ms(tokens: int) -> float:
    """Return a made-up layer latency with a staircase in it, in milliseconds."""
    steps = math.ceil(tokens / 32) * 32
    return 0.18 + 0.0285 * steps * (0.85 + 0.15 * tokens / steps)


def make_study(
    store: Store, name: str = "example-1a2b3c4d", *, n_trials: int = 24, limit_ms: float = 20.0
) -> MadeStudy:
    """Write a whole made-up search into the store, with Optuna's trials, samples, fronts and a result.

    Args:
        store: The open database.
        name: Name of the study.
        n_trials: Trials after dense; every ninth is stopped early.
        limit_ms: The budget.
    """
    rng = np.random.default_rng(len(name))
    store.create_study(study_record(name, limit_ms))
    study = open_optuna_study(store, name, optuna.samplers.RandomSampler(seed=0))
    for number in range(n_trials + 1):
        _trial(store, study, name, number, limit_ms, rng)
    _finish(store, study, name, limit_ms)
    return MadeStudy(name, limit_ms, n_trials)


def _trial(
    store: Store, study: optuna.Study, name: str, number: int, limit_ms: float, rng: np.random.Generator
) -> None:
    trial = study.ask()
    dense = number == 0
    first = 1.0 if dense else trial.suggest_float("keep_first", 0.1, 1.0)
    last = 1.0 if dense else trial.suggest_float("keep_last", 0.05, 1.0) * first
    scorer = "lexicon" if dense else trial.suggest_categorical("scorer", list(_SCORERS))
    policy = PruningPolicy() if dense else PruningPolicy(
        stages=(Stage("input", "lexicon", keep=first), Stage(4, scorer, keep=last, reduce="fuse"))
    )  # fmt: skip
    predicted = _latency(policy)
    score = DENSE_SCORE - (0.0 if dense else 0.09 * (1 - last) ** 3 + 0.02 * _SCORERS.index(scorer) * (1 - last))
    timing = _timing(predicted / DENSE_MS, rng)
    ratio, (low, high) = timing.ratio("p50"), timing.interval("p50")
    trial.set_user_attr("policy", json.dumps(policy.to_dict()))
    trial.set_user_attr("policy_digest", policy.digest())
    stopped = number % 9 == 8
    with store.transaction():
        digest = store.add_policy(policy)
        n = 64 if stopped else 1000
        store.add_evaluation(name, number, digest, EvaluationRow(
            n, not stopped, score, DENSE_SCORE - score, DENSE_SCORE - score - 0.006, DENSE_SCORE - score + 0.006,
            agreement=1 - 1.2 * (DENSE_SCORE - score), kl=2.5 * (DENSE_SCORE - score), seconds=3.0,
        ))  # fmt: skip
        if not stopped:
            store.add_measurement(name, number, digest, MeasurementRow(
                "probe" if dense else "search",
                {"dense": timing.stats("dense").to_dict(), "policy": timing.stats("policy").to_dict()},
                ratio, low, high, latency_ms=ratio * DENSE_MS, flops_ratio=policy_share(policy),
                samples=timing.to_bytes(), extra={"predicted_ms": predicted},
            ))  # fmt: skip
    if stopped:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        return
    set_constraint(trial, high * DENSE_MS - limit_ms)
    study.tell(trial, [ratio * DENSE_MS, score])


def _latency(policy: PruningPolicy) -> float:
    return (
        sum(layer_ms(n) for n in policy.layer_counts(256, _LAYERS, 2)) / (layer_ms(256) * _LAYERS) * (DENSE_MS - 1.5)
        + 1.5
    )


def policy_share(policy: PruningPolicy) -> float:
    """Return the share of tokens over all layers, a stand-in for the FLOPs ratio."""
    return sum(policy.layer_counts(256, _LAYERS, 2)) / (256 * _LAYERS)


def _timing(ratio: float, rng: np.random.Generator, rounds: int = 20) -> PairedTiming:
    noise = rng.lognormal(0.0, 0.02, (2, rounds, 8)) * 1e6
    return PairedTiming(
        dense_ns=(noise[0] * DENSE_MS).astype(np.int64), policy_ns=(noise[1] * DENSE_MS * ratio).astype(np.int64)
    )


def _finish(store: Store, study: optuna.Study, name: str, limit_ms: float) -> None:
    inside, everything = store.front(name, limit_ms), store.front(name)
    best = max(inside, key=lambda point: point.score, default=None)
    volume = hypervolume(
        [point.latency_ms / DENSE_MS for point in everything],
        [point.score for point in everything],
        latency_reference=1.0,
    )
    store.save_front(name, "front", [_front_row(point) for point in inside], "search finished", volume)
    store.save_front(name, "verified", [_front_row(point) for point in inside[-3:]], "winners measured again", None)
    store.set_result(name, "met" if best else "not_met", _document(store, study, name, limit_ms, best, inside))


def _front_row(point: TrialPoint) -> FrontRow:
    return FrontRow(point.trial, point.digest, point.latency_ms, point.score, False, _candidate(point))


def _candidate(point: TrialPoint) -> dict[str, Any]:
    ratio = point.ratio or 1.0
    return {
        "trial": point.trial, "policy": point.policy, "digest": point.digest,
        "ratio": ratio, "ratio_ci95": [point.ratio_lo, point.ratio_hi],
        "latency_ms": {"p50": point.latency_ms, "p95": point.latency_ms * 1.05, "mean": point.latency_ms},
        "speedup": 1 / ratio, "score": point.score, "drop": point.drop, "drop_ci95": [point.drop_lo, point.drop_hi],
        "kl": point.kl, "agreement": point.agreement, "flops_ratio": point.flops_ratio,
        "end_to_end_ms": point.latency_ms + 0.6, "verified": True,
    }  # fmt: skip


def _document(
    store: Store, study: optuna.Study, name: str, limit_ms: float, best: TrialPoint | None, inside: list[TrialPoint]
) -> dict[str, Any]:
    record = store.require_study(name)
    states = [trial.state.name for trial in study.get_trials(deepcopy=False)]
    return {
        "schema_version": 1, "study": name, "db": store.url_masked, "budget": record.budget,
        "status": "met" if best else "not_met", "metric": "accuracy",
        "dense": {"latency_ms": {"p50": DENSE_MS, "p95": DENSE_MS * 1.08, "mean": DENSE_MS * 1.01},
                  "score": DENSE_SCORE, "n_examples": 1000},
        "floor_ms": 4.2, "workload": record.workload, "hardware": record.hardware,
        "best": _candidate(best) if best else None, "nearest_infeasible": None,
        "front": [_candidate(point) for point in inside],
        "trials": {"complete": states.count("COMPLETE"), "stopped": states.count("PRUNED"), "failed": 0},
        "elapsed_s": 212.5, "versions": record.versions,
    }  # fmt: skip

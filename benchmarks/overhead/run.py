"""Measured / ideal latency of every scorer x reducer at batch 1 and 16; 256 tokens.

    python benchmarks/overhead/run.py                 # the committed table (about 40 minutes on a quiet core)
    python benchmarks/overhead/run.py --batches 1     # one batch of it; the rows of the other are kept
    python benchmarks/overhead/run.py --profile cls_attention:fuse

Ideal is the dense model whose layers are handed the first n rows of the hidden states, n being the count that the
policy leaves there: no scoring, no gathering, no mask, everything else of the model's own forward. The model has
MiniLM's shape (6 layers, 384 wide, 12 heads) and random weights, which time does not depend on. Ratios are medians of
paired, interleaved forwards. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from paired import machine, paired_ratio, write
from transformers import BertConfig, BertForSequenceClassification

from autoprune._registry import REDUCERS, SCORERS
from autoprune.policy import PruningPolicy, Stage
from autoprune.pruning import TableSet, attach, family_of, twin
from autoprune.pruning.methods import takes_table

TOKENS = 256
TARGET = {
    "saliency": None,
    **dict.fromkeys(
        ("random", "truncate", "uniform", "stopwords", "frequency", "surprisal", "lexicon", "cls_attention"), 1.05
    ),
}
STATIC = {name for name, kind in SCORERS.items() if not kind.needs & {"attention", "hidden", "saliency"}}


def minilm() -> Any:
    config = BertConfig(
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
        num_labels=8,
        cls_token_id=101,
        sep_token_id=102,
    )
    torch.manual_seed(0)
    return BertForSequenceClassification(config).eval()


def batch_of(rows: int, seed: int) -> dict[str, torch.Tensor]:
    ids = torch.randint(1000, 30000, (rows, TOKENS), generator=torch.Generator().manual_seed(seed))
    ids[:, 0], ids[:, -1] = 101, 102
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}


def tables() -> tuple[TableSet, str]:
    values = torch.rand(30522, generator=torch.Generator().manual_seed(1))
    found = TableSet()
    return found, found.add({"importance": values, "count": values * 100, "stopword": (values > 0.7).float()})


def policy_of(scorer: str, reducer: str, stages: int, key: str) -> PruningPolicy:
    early = "input" if scorer in STATIC and reducer == "drop" else 1
    params = {"table": key} if scorer in SCORERS and takes_table(scorer) else {}
    if scorer == "received_attention exact":
        scorer, params = "received_attention", {"method": "exact"}
    plan = {early: 0.5} if stages == 1 else {early: 0.7, 3: 0.5, 5: 0.35}
    made = [Stage(layer=at, scorer=scorer, keep=keep, reduce=reducer, params=params) for at, keep in plan.items()]
    return PruningPolicy(stages=tuple(made))


def ideal(model: Any, policy: PruningPolicy) -> Callable[[Any], Any]:
    """Return the dense model with layers that see only as many rows as the policy leaves."""
    other = twin(model)
    counts = policy.layer_counts(TOKENS, 6, 2)
    for layer, count in zip(family_of(other).layers(other), counts, strict=True):

        def cut(module: Any, args: Any, kwargs: Any, n: int = count) -> Any:
            hidden = args[0]
            if hidden.shape[1] == n:
                return None
            return (hidden[:, :n].contiguous(), *args[1:]), kwargs

        layer.register_forward_pre_hook(cut, with_kwargs=True)

    def run(batch: dict[str, torch.Tensor]) -> Any:
        with torch.inference_mode():
            return other(**{**batch, "attention_mask": None}).logits

    return run


def pruned(model: Any, policy: PruningPolicy, found: TableSet) -> Callable[[Any], Any]:
    other = twin(model)
    handle = attach(other, policy, tables=found)

    def run(batch: dict[str, torch.Tensor]) -> Any:
        with torch.inference_mode():
            return other(**batch).logits

    run.handle = handle  # type: ignore[attr-defined]
    return run


def cells() -> list[tuple[str, str]]:
    """Return the cells; reducers that never ask the scorer are measured once."""
    found = []
    for reducer, kind in REDUCERS.items():
        names = [*SCORERS.names(), "received_attention exact"] if kind.uses_scores else ["random"]
        found += [(name, reducer) for name in names]
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 16])
    parser.add_argument("--only", nargs="*", help="scorer:reducer")
    parser.add_argument("--profile")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, (found, key) = minilm(), tables()
    if options.profile:
        profile(model, found, key, *options.profile.split(":"))
        return
    rows = []
    for size in options.batches:
        chosen = cells()
        if options.only:
            chosen = [cell for cell in chosen if ":".join(cell) in options.only]
        inputs = [batch_of(size, seed) for seed in range(4)]
        for scorer, reducer in chosen:
            for stages in (1, 3):
                policy = policy_of(scorer, reducer, stages, key)
                rounds = max(6, options.rounds // size) if size > 1 else options.rounds
                result = paired_ratio(pruned(model, policy, found), ideal(model, policy), inputs, rounds)
                target = TARGET.get(scorer, 1.15) if REDUCERS.get(reducer).uses_scores else 1.15
                rows.append(
                    {"scorer": scorer, "reducer": reducer, "stages": stages, "batch": size, "target": target, **result}
                )
                print(f"batch {size} {scorer} {reducer} x{stages}: {result['ratio']:.3f}", file=sys.stderr)
    if not options.only:
        rows = sorted(kept(options) + rows, key=lambda row: int(row["batch"]))
        write(options.out, {"machine": machine(), "rows": rows}, table(rows))
    else:
        print(table(rows))


def kept(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the rows that are there already, of batches that are not measured now."""
    path = options.out / "results.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    return [row for row in rows if row["batch"] not in options.batches]


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "# Measured / ideal latency",
        "",
        f"MiniLM's shape, {TOKENS} tokens, one thread. {machine()['cpu']}, torch {torch.__version__}.",
        "Targets (batch 1): 1.05 for static and CLS scorers, 1.15 for the others; `saliency` has none.",
        "Reducers that never ask the scorer are measured with `random` alone.",
        "",
        "| scorer | reducer | stages | batch | measured ms | ideal ms | measured / ideal (95 %) | target | met |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        target = r["target"] if r["batch"] == 1 else None
        met = "" if target is None else ("yes" if r["ratio"] <= target else "**no**")
        cells_ = [r["scorer"], r["reducer"], r["stages"], r["batch"], f"{r['policy_ms']:.1f}", f"{r['base_ms']:.1f}"]
        cells_ += [f"{r['ratio']:.3f} ({r['low']:.3f} to {r['high']:.3f})", target or "", met]
        lines.append("| " + " | ".join(map(str, cells_)) + " |")
    return "\n".join(lines) + "\n"


def profile(model: Any, found: TableSet, key: str, scorer: str, reducer: str) -> None:
    run, batch = pruned(model, policy_of(scorer, reducer, 3, key), found), batch_of(1, 0)
    for _ in range(5):
        run(batch)
    watch = cProfile.Profile()
    watch.enable()
    for _ in range(50):
        run(batch)
    watch.disable()
    pstats.Stats(watch).sort_stats("tottime").print_stats(30)


if __name__ == "__main__":
    main()

"""Score drop and measured speed-up of every method at keeps .7 .5 .35 .25 on the quickstart task.

    python benchmarks/methods/run.py                  # the committed table (about half an hour on a quiet core)
    python benchmarks/methods/run.py --step quality   # scores alone, on any machine; what is done is not done again
    python benchmarks/methods/run.py --step timing    # times alone, and the table
    python benchmarks/methods/run.py --examples 64 --rounds 8 --only random lexicon --work /tmp/try

Static scorers act at the input, the others before layer 1 (and `random` in both places, as the control of each); one
stage each, nothing is trained. Drop is dense accuracy
minus pruned accuracy on the same held-out texts, with a paired bootstrap interval. Speed-up is dense / pruned time of
paired, interleaved forwards at batch 1 and 256 tokens. The shortcut of the last layer is off, so that the figures are
the method's own. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from paired import machine, paired_ratio, write

from autoprune._registry import REDUCERS, SCORERS
from autoprune.policy import PruningPolicy, Stage
from autoprune.pruning import TableSet, attach, build_lexicon, twin
from autoprune.pruning.counts import count_ids, stopword_table
from autoprune.tasks.base import TaskSpec, load_task

KEEPS = (0.7, 0.5, 0.35, 0.25)
CONTROLS = ("random", "truncate", "uniform")
STATIC = {name for name, kind in SCORERS.items() if not kind.needs & {"attention", "hidden", "saliency"}}


def methods(task: Any, found: TableSet, lexicon_texts: int) -> dict[str, dict[str, Any]]:
    """Return the fields of a stage for each method, by label."""
    vocabulary = task.model.get_input_embeddings().num_embeddings

    def texts(n: int) -> Any:
        return task.calibration_batches(n, 8, 128)

    count = count_ids(texts(lexicon_texts), vocabulary)
    keys = {"count": found.add(count), "stop": found.add(stopword_table(task.tokenizer, vocabulary))}
    for way, n in (
        ("gradient", lexicon_texts),
        ("attention", lexicon_texts),
        ("leave_one_out", min(64, lexicon_texts)),
    ):
        print(f"learning the lexicon by {way}", file=sys.stderr)
        keys[way] = found.add(build_lexicon(task.model, texts(n), method=way, prior_strength=2.0))
    plain = {
        name: {"scorer": name}
        for name in SCORERS.names()
        if name not in ("lexicon", "frequency", "stopwords", "surprisal", "truncate")
    }
    plain["random inside"] = {"scorer": "random", "layer": 1}
    for side in ("head", "tail", "both"):
        plain[f"truncate {side}"] = {"scorer": "truncate", "params": {"side": side}}
    for way in ("gradient", "attention", "leave_one_out"):
        plain[f"lexicon {way}"] = {"scorer": "lexicon", "params": {"table": keys[way]}}
    for remove in ("low", "high"):
        plain[f"frequency {remove}"] = {"scorer": "frequency", "params": {"table": keys["count"], "remove": remove}}
    plain["surprisal"] = {"scorer": "surprisal", "params": {"table": keys["count"]}}
    plain["stopwords"] = {"scorer": "stopwords", "params": {"table": keys["stop"]}}
    plain["cls_attention valued"] = {"scorer": "cls_attention", "params": {"value_weighted": True}}
    plain["entropy low"] = {"scorer": "entropy", "params": {"sign": -1}}
    plain["received exact"] = {"scorer": "received_attention", "params": {"method": "exact"}}
    for reducer in ("fuse", "cut_and_merge"):
        plain[f"cls_attention {reducer}"] = {"scorer": "cls_attention", "reduce": reducer}
    for reducer in REDUCERS.names():
        if not REDUCERS.get(reducer).uses_scores:
            plain[reducer] = {"scorer": "random", "reduce": reducer}
    return plain


def predictions(model: Any, task: Any, n: int) -> np.ndarray:
    """Return logits of the first n held-out texts, (n, classes) float32."""
    out: dict[int, np.ndarray] = {}
    for indices, batch in task.batches(0, n, 8):
        with torch.no_grad():  # saliency needs tensors that are not of inference mode
            logits = model(**batch).logits.float().numpy()
        out.update(zip(indices.tolist(), logits, strict=True))
    return np.stack([out[i] for i in range(n)])


def quality(dense: np.ndarray, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return drop with interval in points, agreement and mean KL(dense || pruned)."""
    harm = (dense.argmax(1) == labels).astype(float) - (logits.argmax(1) == labels)
    draws = np.random.default_rng(0).integers(0, len(harm), (4000, len(harm)))
    low, high = np.quantile(harm[draws].mean(1), [0.025, 0.975])
    p, q = (torch.from_numpy(x).log_softmax(-1) for x in (dense, logits))
    return {
        "drop": float(harm.mean() * 100),
        "drop_low": float(low * 100),
        "drop_high": float(high * 100),
        "agreement": float((dense.argmax(1) == logits.argmax(1)).mean()),
        "kl": float((p.exp() * (p - q)).sum(-1).mean()),
    }


def runner(model: Any) -> Callable[[Any], Any]:
    def run(batch: Any) -> Any:
        with torch.no_grad():
            return model(**batch).logits

    return run


class Notebook:
    """Figures by method and keep, written at once, so that a run goes on where it stopped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.cells: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}

    def lacks(self, key: str, field: str) -> bool:
        return field not in self.cells.get(key, {})

    def add(self, key: str, figures: dict[str, Any]) -> None:
        self.cells[key] = {**self.cells.get(key, {}), **figures}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(self.cells, indent=1))
        print(key, {k: round(v, 3) for k, v in figures.items() if isinstance(v, float)}, file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--examples", type=int, default=576)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--lexicon-texts", type=int, default=600)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--step", choices=["quality", "timing", "both"], default="both")
    parser.add_argument("--work", type=Path, default=Path(__file__).parents[2] / "build" / "methods")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    torch.set_num_threads(1)
    task, found = load_task(TaskSpec()), TableSet()
    n = min(options.examples, len(task.texts))
    labels = np.asarray(task.labels)[:n]
    notebook = Notebook(options.work / f"cells-{n}-{options.lexicon_texts}.json")
    dense_model, inputs = task.model, task.inputs((256,) * 8, 1)
    dense = predictions(dense_model, task, n) if options.step != "timing" else None
    plan = methods(task, found, options.lexicon_texts)
    for label, fields in plan.items():
        if options.only and label not in options.only:
            continue
        for keep in KEEPS:
            key, policy = f"{label}|{keep}", policy_of(fields, keep)
            todo = [f for f, step in (("drop", "quality"), ("speedup", "timing")) if options.step in (step, "both")]
            if not any(notebook.lacks(key, field) for field in todo):
                continue
            model = twin(dense_model)
            with attach(model, policy, tokenizer=task.tokenizer, tables=found):
                if "drop" in todo and notebook.lacks(key, "drop"):
                    notebook.add(key, quality(dense, predictions(model, task, n), labels))
                if "speedup" in todo and notebook.lacks(key, "speedup"):
                    timing = paired_ratio(runner(model), runner(dense_model), inputs, options.rounds)
                    notebook.add(key, speed(timing))
    if dense is not None:
        notebook.add("dense", {"accuracy": float((dense.argmax(1) == labels).mean() * 100)})
    rows = [
        {
            "method": label,
            "layer": policy_of(fields, keep).stages[0].layer,
            "keep": keep,
            **notebook.cells[f"{label}|{keep}"],
        }
        for label, fields in plan.items()
        for keep in KEEPS
        if {"drop", "speedup"} <= set(notebook.cells.get(f"{label}|{keep}", {}))
    ]
    accuracy = notebook.cells.get("dense", {}).get("accuracy", float("nan"))
    payload = {"machine": machine(), "examples": n, "dense_accuracy": accuracy, "rows": rows}
    if len(rows) == len(plan) * len(KEEPS):
        write(options.out, payload, table(rows, n, accuracy))
    else:
        print(f"{len(rows)} of {len(plan) * len(KEEPS)} cells are complete.")


def policy_of(fields: dict[str, Any], keep: float) -> PruningPolicy:
    """Return the one-stage policy of a method: static scorers at the input, the others before layer 1."""
    early = fields["scorer"] in STATIC and fields.get("reduce", "drop") == "drop"
    return PruningPolicy(stages=(Stage(keep=keep, **{"layer": "input" if early else 1, **fields}),))


def speed(timing: dict[str, float]) -> dict[str, float]:
    return {"speedup": 1 / timing["ratio"], "speedup_low": 1 / timing["high"], "speedup_high": 1 / timing["low"]}


def table(rows: list[dict[str, Any]], n: int, accuracy: float) -> str:
    lines = [
        "# Every method on the quickstart task",
        "",
        f"Drop in accuracy points against dense ({accuracy:.1f} %) on {n} held-out texts, 95 % interval; KL; speed-up.",
        "",
        "| method | layer | " + " | ".join(f"keep {k}" for k in KEEPS) + " |",
        "|---|---|" + "---|" * len(KEEPS),
    ]
    for label in dict.fromkeys(r["method"] for r in rows):
        mine = [r for r in rows if r["method"] == label]
        body = " | ".join(
            f"{r['drop']:.1f} ({r['drop_low']:.1f} to {r['drop_high']:.1f}), KL {r['kl']:.3f}, {r['speedup']:.2f}x"
            for r in mine
        )
        lines.append(f"| {label} | {mine[0]['layer']} | {body} |")
    return "\n".join([*lines, "", *losers(rows)]) + "\n"


def losers(rows: list[dict[str, Any]]) -> list[str]:
    """Return a line for each method that loses to random in the same place by KL, at the same keep."""
    control = {(r["method"], r["keep"]): r["kl"] for r in rows if r["method"].startswith("random")}
    said = []
    for label in dict.fromkeys(r["method"] for r in rows):
        mine = [r for r in rows if r["method"] == label]
        rival = "random" if mine[0]["layer"] == "input" else "random inside"
        worse = [r["keep"] for r in mine if r["kl"] > control.get((rival, r["keep"]), np.inf)]
        if worse and label.split()[0] not in CONTROLS:
            said.append(f"- `{label}` loses to `{rival}` (by KL) at keep {', '.join(map(str, worse))}.")
    return ["## Methods that lose to random", "", *said] if said else ["No method loses to `random`."]


if __name__ == "__main__":
    main()

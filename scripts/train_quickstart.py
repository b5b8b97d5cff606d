"""Train the quickstart's adapter: low-rank changes of MiniLM's linear layers and a head on the first token.

Uses the training split alone; the held-out split is scored once at the end. Run it in a checkout:

    OMP_NUM_THREADS=1 python scripts/train_quickstart.py --bfloat16

It rewrites ``autoprune/assets/quickstart_adapter.*``. The shipped one took 20 minutes on one thread of a busy
two-core machine with AMX.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from sklearn.metrics import f1_score
from torch import Tensor, nn
from transformers import AutoTokenizer

import autoprune
from autoprune.tasks.quickstart import adapter as ad
from autoprune.tasks.quickstart import corpus
from autoprune.tasks.quickstart.checkpoint import checkpoint_dir
from autoprune.tasks.quickstart.corpus import Example
from autoprune.tasks.quickstart.libraries import LIBRARIES

ASSETS = Path(autoprune.__file__).parent / "assets"
BATCH = 32


class LowRank(nn.Module):
    """A frozen linear layer plus a low-rank change.

    Args:
        inner: The layer, (in) -> (out).
        rank: Of the change.
    """

    def __init__(self, inner: nn.Linear, rank: int) -> None:
        super().__init__()
        self.inner = inner
        self.down = nn.Parameter(torch.randn(rank, inner.in_features) / math.sqrt(inner.in_features))
        self.up = nn.Parameter(torch.zeros(inner.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        out: Tensor = self.inner(x) + (x @ self.down.T) @ self.up.T
        return out


def add_low_rank(model: nn.Module, rank: int, pooler_rank: int) -> dict[str, LowRank]:
    """Wrap every linear layer of the encoder and the pooler; return the wrappers by name."""
    linears = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear) and name != "classifier"]
    wrapped = {}
    for name, linear in linears:
        parent, _, leaf = name.rpartition(".")
        wrapped[name] = LowRank(linear, pooler_rank if "pooler" in name else rank)
        setattr(model.get_submodule(parent), leaf, wrapped[name])
    return wrapped


def drop_less(model: nn.Module) -> None:
    """Keep dropout at the embeddings and the head alone: inside the layers it doubles the time on a CPU."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout) and ".encoder." in name:
            module.p = 0.0


def batches(rows: Sequence[tuple[list[int], int]], length: int, rng: random.Random) -> Iterator[tuple[Tensor, ...]]:
    """Yield (ids, mask, labels) of similar lengths, in random order, cut to ``length`` tokens."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]) + rng.random() * 40)
    groups = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
    rng.shuffle(groups)
    for group in groups:
        cut = [[*rows[i][0][: length - 1], 102] if len(rows[i][0]) > length else rows[i][0] for i in group]
        width = max(map(len, cut))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in cut])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in cut])
        yield ids, mask, torch.tensor([rows[i][1] for i in group])


def train(model: nn.Module, rows: Sequence[tuple[list[int], int]], args: argparse.Namespace) -> None:
    """Train the parameters that require gradients: short texts first, full length in the last epoch."""
    rng = random.Random(args.seed)
    lengths = [128] * (args.epochs - 1) + [ad.MAX_LENGTH]
    heads = [p for n, p in model.named_parameters() if p.requires_grad and n.startswith("classifier")]
    others = [p for n, p in model.named_parameters() if p.requires_grad and not n.startswith("classifier")]
    optimizer = torch.optim.AdamW([{"params": others}, {"params": heads}], lr=args.lr, weight_decay=0.01)
    steps = args.epochs * math.ceil(len(rows) / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=steps, pct_start=0.1)
    start = time.time()
    for epoch, length in enumerate(lengths):
        total = 0.0
        for ids, mask, labels in batches(rows, length, rng):
            with torch.autocast("cpu", torch.bfloat16, enabled=args.bfloat16):
                logits = model(input_ids=ids, attention_mask=mask).logits
            loss = nn.functional.cross_entropy(logits.float(), labels, label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += loss.item() * len(labels)
        print(f"epoch {epoch}: {length} tokens, loss {total / len(rows):.4f}, {time.time() - start:.0f} s", flush=True)


@torch.inference_mode()
def predict(model: nn.Module, rows: Sequence[tuple[list[int], int]]) -> tuple[list[int], list[int]]:
    """Return (predictions, labels)."""
    model.eval()
    predictions, labels = [], []
    for ids, mask, batch_labels in batches(rows, ad.MAX_LENGTH, random.Random(0)):
        predictions += model(input_ids=ids, attention_mask=mask).logits.argmax(-1).tolist()
        labels += batch_labels.tolist()
    return predictions, labels


def main() -> None:
    """Build the corpus, train, score, and write the adapter and its card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--pooler-rank", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="use so many training texts (for a quick look)")
    parser.add_argument("--bfloat16", action="store_true", help="several times faster on CPUs with AMX")
    parser.add_argument("--out", type=Path, default=ASSETS)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)

    splits = corpus.build({library.name: library.root() for library in LIBRARIES}, progress=print)
    classes = tuple(library.name for library in LIBRARIES)
    known = {name: splits[name] for name in (corpus.HELD_OUT, corpus.CALIBRATION)}
    tokenizer = AutoTokenizer.from_pretrained(checkpoint_dir())

    def encode(examples: Sequence[Example]) -> list[tuple[list[int], int]]:
        ids = tokenizer([e.text for e in examples], truncation=True, max_length=ad.MAX_LENGTH)["input_ids"]
        return list(zip(ids, (e.label for e in examples), strict=True))

    training = list(splits[corpus.TRAIN])
    random.Random(args.seed).shuffle(training)
    model = ad.load_model(checkpoint_dir(), None, classes)
    model.requires_grad_(False)
    model.get_submodule("classifier").requires_grad_(True)
    drop_less(model)
    wrapped = add_low_rank(model, args.rank, args.pooler_rank)
    train(model.train(), encode(training[: args.limit]), args)

    parts = {f"{name}.{part}": getattr(m, part) for name, m in wrapped.items() for part in ("down", "up")}
    head = {f"head.{part}": model.get_parameter(f"classifier.{part}") for part in ("weight", "bias")}
    tensors = {name: p.detach().half().contiguous() for name, p in (parts | head).items()}
    merged = ad.load_model(checkpoint_dir(), tensors, classes)
    predictions, labels = predict(merged, encode(splits[corpus.HELD_OUT]))
    accuracy = sum(p == y for p, y in zip(predictions, labels, strict=True)) / len(labels)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / ad.ADAPTER[-1]
    save_file(tensors, path)
    path.chmod(0o644)  # safetensors writes for the owner alone, and a wheel keeps that
    card = ad.AdapterCard(
        classes=classes,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        heldout_accuracy=accuracy,
        heldout_macro_f1=float(f1_score(labels, predictions, average="macro")),
        heldout_examples=len(labels),
        corpus_fingerprint=corpus.fingerprint(classes, known),
        builder_version=corpus.BUILDER_VERSION,
        versions={library.name: library.version() for library in LIBRARIES},
        training={
            **{name: getattr(args, name) for name in ("epochs", "rank", "pooler_rank", "lr", "seed", "bfloat16")},
            "examples": len(training[: args.limit]),
        },
    )
    (args.out / ad.CARD[-1]).write_text(json.dumps(card.to_dict(), indent=2) + "\n")
    print(f"held-out accuracy {accuracy:.4f} on {len(labels)}; {path} has {path.stat().st_size} bytes")
    for i, name in enumerate(classes):
        row = [sum(p == j for p, y in zip(predictions, labels, strict=True) if y == i) for j in range(len(classes))]
        print(f"{name:14} {row}")


if __name__ == "__main__":
    main()

"""One stage on one forward pass: count, score, reduce, and bring the pass's own books up to date."""

from __future__ import annotations

import torch
from torch import Tensor

from autoprune.errors import PolicyError
from autoprune.pruning.attention import is_tracing
from autoprune.pruning.context import Attention, Reduced, ScoreContext, Tokens
from autoprune.pruning.plan import Plan, StagePlan
from autoprune.pruning.restore import remember
from autoprune.pruning.selectors import keep_counts, scored_counts, take
from autoprune.pruning.state import Run, StageScores, StageTrace


def score_context(
    plan: Plan, run: Run, stage: StagePlan, hidden: Tensor | None, attention: Attention | None
) -> ScoreContext:
    """Return what the stage's scorer may look at."""
    return ScoreContext(
        positions=run.positions if run.start is None else (run.positions - run.start).clamp(min=0),
        length=run.length,
        lengths=run.lengths,
        valid=run.valid,
        protected=run.protected,
        seed_stage=stage.index,
        ids=run.ids,
        types=run.types,
        hidden=hidden,
        attention=attention,
        accumulated=run.accumulated.get(stage.index),
        saliency=run.saliency,
        tables=run.tables,
        most_protected=None if run.guessed else max(run.guarded),
    )


def will_reduce(run: Run, stage: StagePlan) -> bool:
    """Whether the stage may remove something, as far as can be told without scores."""
    if stage.stage.keep is None:
        return True
    return keep_counts(stage.stage, run.lengths, run.current, run.guarded) != run.current


def apply_stage(plan: Plan, run: Run, stage: StagePlan, hidden: Tensor | None) -> Tensor | None:
    """Let tokens leave.

    Args:
        plan: The policy, made ready.
        run: The forward pass; its books are brought up to date.
        stage: The stage.
        hidden: (B, n, d), or None at the input, where only the books change.

    Returns:
        (B, k, d) hidden states; the very same tensor when nothing leaves.
    """
    score = _scores(plan, run, stage, hidden) if stage.scored and will_reduce(run, stage) else None
    if run.trace is not None and score is not None:
        run.trace.scored.append(StageScores(stage.index, score.detach().clone(), run.valid, run.protected))
    counts = _counts(run, stage, score)
    if counts == run.current:
        return hidden
    if plan.family.masks == "none" and min(counts) < max(counts):
        raise PolicyError(
            f"Stage {stage.index} leaves {min(counts)} to {max(counts)} tokens in the rows of one batch, and "
            f"{plan.family.name} has no mask that could hide the padding of the shorter ones.",
            "Use keep, or batches of one.",
        )
    if run.guessed and stage.reducer.merges:
        raise PolicyError(
            f"The reducer {stage.stage.reduce!r} must know how many tokens are protected, which a tracer cannot read.",
            "Compile with drop or fuse, or protect a prefix alone (protect.special_tokens: false, no pattern).",
        )
    tokens = Tokens(
        hidden=run.positions.unsqueeze(-1) if hidden is None else hidden,
        score=score,
        protected=run.protected,
        valid=run.valid,
        current=run.current,
        counts=counts,
        guarded=run.guarded,
        sizes=run.sizes,
        keys=run.keys,
        pad_left=plan.guard_last,
    )
    reduced = stage.reducer.reduce(tokens)
    if plan.restores and hidden is not None:
        remember(run, hidden, reduced)
    before = run.positions, run.valid, run.synthetic
    update(run, reduced, counts)
    if run.trace is not None:
        _note(run, stage, score, before)
    return None if hidden is None else reduced.hidden


def _scores(plan: Plan, run: Run, stage: StagePlan, hidden: Tensor | None) -> Tensor:
    score = run.scores.pop(stage.index, None)
    if score is not None:
        return score
    if "attention" in stage.needs:
        raise PolicyError(
            f"Stage {stage.index} found no attention to look at in layer {stage.watch_layers[-1]}.",
            "The layer did not run, or ran under gradient checkpointing.",
        )
    with torch.no_grad():
        return stage.scorer.score(score_context(plan, run, stage, hidden, None)).float()


def _counts(run: Run, stage: StagePlan, score: Tensor | None) -> list[int]:
    if stage.stage.keep is not None:
        return keep_counts(stage.stage, run.lengths, run.current, run.guarded)
    if is_tracing():
        raise PolicyError("Counts that depend on scores cannot be traced.", "Use keep instead of threshold or mass.")
    if score is None:
        raise PolicyError(f"Stage {stage.index} selects by scores and has none.")
    return scored_counts(stage.stage, score, run.protected, run.valid, run.current)


def update(run: Run, reduced: Reduced, counts: list[int]) -> None:
    """Bring the books of a pass in line with the tokens that are left."""
    index = reduced.index
    run.positions = take(run.positions, index)
    run.protected = take(run.protected, index)
    if reduced.valid is not None:
        run.protected = run.protected & reduced.valid
    if reduced.synthetic is not None:
        run.protected = run.protected & ~reduced.synthetic
    run.synthetic = _synthetic(run.synthetic, reduced)
    run.ids = None if run.ids is None else take(run.ids, index)
    run.types = None if run.types is None else take(run.types, index)
    run.saliency = None if run.saliency is None else take(run.saliency, index)
    run.scores = {key: take(value, index) for key, value in run.scores.items()}
    run.accumulated = {key: take(value, index) for key, value in run.accumulated.items()}
    run.sizes = reduced.sizes
    run.keys = None if run.keys is None else take(run.keys, index)
    run.valid = reduced.valid
    run.current = counts
    run.changed = True
    run.masks = {}


def _synthetic(old: Tensor | None, reduced: Reduced) -> Tensor | None:
    if old is None:
        return reduced.synthetic
    carried = take(old, reduced.index)
    return carried if reduced.synthetic is None else carried | reduced.synthetic


def positions_by_row(positions: Tensor, valid: Tensor | None, synthetic: Tensor | None) -> list[list[int]]:
    """Return the original positions of the real tokens of each row, ascending."""
    real = torch.ones_like(positions, dtype=torch.bool) if valid is None else valid
    if synthetic is not None:
        real = real & ~synthetic
    return [sorted(row[keep].tolist()) for row, keep in zip(positions, real, strict=True)]


def _note(
    run: Run, stage: StagePlan, score: Tensor | None, before: tuple[Tensor, Tensor | None, Tensor | None]
) -> None:
    if run.trace is None:
        return
    run.trace.stages.append(
        StageTrace(
            stage=stage.index,
            layer=stage.stage.depth[0],
            kept=positions_by_row(run.positions, run.valid, run.synthetic),
            tokens=list(run.current),
            scores=None if score is None else score.detach().clone(),
            before=positions_by_row(*before),
        )
    )

"""Calibration: what thresholds and masses leave, read once off the dense model, kept in the store.

Only a space that lists such selectors is calibrated, on texts that are never scored.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import torch

from autoprune.engine.landscape.curves import Curves
from autoprune.engine.landscape.expected import Expected
from autoprune.policy import Protect, PruningPolicy, Stage
from autoprune.pruning.attach import attach
from autoprune.pruning.tables import TableSet
from autoprune.pruning.twin import twin
from autoprune.spaces.choices import label_of_stage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from autoprune.engine.events import Observer
    from autoprune.engine.session import Session
    from autoprune.pruning.state import StageScores
    from autoprune.spaces.space import Space
    from autoprune.store.repository import Store

_TEXTS, _FROM = 48, 240  # so many rows, the shares of which are known to about a percent, from as many texts
_BATCHES = 4  # at the least, where batches are large


def open_expected(
    session: Session, store: Store, tables: TableSet, table_of: Mapping[str, str], observer: Observer
) -> Expected:
    """Return what policies of the session's space leave, calibrated once for all studies of the same workload.

    Raises:
        DataError: There is no calibration text.
    """
    if session.space.selectors() <= {"keep"}:
        return Expected()
    stages = scoring_stages(session.space, table_of)
    place = (session.task.model_digest, f"curves:{_digest(session, stages)}")
    known = store.get_profile(*place)
    data = store.get_table(known["curves"]) if known else None
    if known is None or data is None:
        facts = read_scores(session, stages, tables, observer)
        kept = TableSet()
        key = kept.add(facts)
        store.put_table(key, kept.to_bytes())
        store.put_profile(*place, {"curves": key})
    else:
        facts = TableSet.from_bytes(data)[known["curves"]]
    return Expected(_curves(facts, stages, session.workload.batch_size))


def scoring_stages(space: Space, table_of: Mapping[str, str]) -> list[Stage]:
    """Return one stage per place and scorer of the space, in order, each of which is scored and keeps all."""
    stages = []
    for layer, where, choice in space.places():
        table = {"table": table_of[choice.scorer]} if choice.scorer in table_of else {}
        stages.append(Stage(layer, choice.scorer, threshold=0.0, where=where, params={**choice.params, **table}))
    return sorted(stages, key=lambda stage: stage.depth)


def read_scores(session: Session, stages: Sequence[Stage], tables: TableSet, observer: Observer) -> dict[str, Tensor]:
    """Run the model once over calibration texts as long as the timed inputs, and return what the scorers say.

    Returns:
        ``scores`` (stages, texts, tokens) float16, per text of mean 1 over real tokens; ``real`` and ``held``
        (texts, tokens) bool: no padding, and protected whatever a policy's prefix.
    """
    task, rows = session.task, session.workload.batch_size
    lengths = _spread(session.workload.lengths, max(_BATCHES, -(-_TEXTS // rows)))
    protect = session.space.protect
    # A policy's own prefix is added by the curves, for it may be an axis of the space.
    policy = PruningPolicy(tuple(stages), Protect(0, protect.special_tokens, protect.pattern))
    found: list[list[StageScores]] = []
    model = twin(task.model)
    observer.phase("calibrate", len(lengths))
    with torch.inference_mode(), attach(model, policy, tokenizer=task.tokenizer, tables=tables) as handle:
        for batch in task.calibration_inputs(lengths, rows, _FROM):
            with handle.record() as trace:
                model(**{name: tensor.to(model.device) for name, tensor in batch.items()})
            found.append(sorted(trace.scored, key=lambda one: one.stage))
            observer.advance()
    return _stacked(found)


def _spread(lengths: Sequence[int], count: int) -> list[int]:
    """Return ``count`` of the workload's lengths, ascending, evenly from the short to the long ones."""
    ordered = sorted(lengths)
    return [ordered[(2 * i + 1) * len(ordered) // (2 * count)] for i in range(count)]


def _stacked(found: Sequence[Sequence[StageScores]]) -> dict[str, Tensor]:
    """Put the batches on top of each other, padded to the longest."""
    width = max(batch[0].scores.shape[1] for batch in found)
    scores, real, held = [], [], []
    for batch in found:
        first = batch[0]
        valid = torch.ones_like(first.protected) if first.valid is None else first.valid
        every = torch.stack([one.scores.float() for one in batch]).clamp(min=0) * valid
        mean = every.sum(-1, keepdim=True) / valid.sum(-1, keepdim=True)
        # A text whose scores are all zero has no ranking: every token counts as average, as in the selector.
        scores.append(_padded(torch.where(mean > 0, every / mean.clamp(min=1e-30), 1.0) * valid, width).half())
        real.append(_padded(valid, width))
        held.append(_padded(first.protected & valid, width))
    return {"scores": torch.cat(scores, 1), "real": torch.cat(real), "held": torch.cat(held)}


def _padded(tensor: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(tensor.cpu(), (0, width - tensor.shape[-1]))


def _curves(facts: Mapping[str, Tensor], stages: Sequence[Stage], rows: int) -> Curves:
    places = [(stage.depth, label_of_stage(stage)) for stage in stages]
    scores = dict(zip(places, facts["scores"].float(), strict=True))
    return Curves(scores, facts["real"], facts["held"], rows)


def _digest(session: Session, stages: Sequence[Stage]) -> str:
    """Return the digest of everything but the model that the scores depend on."""
    workload = session.workload
    parts: dict[str, Any] = {
        "data": session.task.fingerprint,
        "texts": [_TEXTS, _FROM, _BATCHES],
        "lengths": list(workload.lengths),
        "rows": workload.batch_size,
        "dtype": workload.dtype,
        "protect": session.space.protect.to_dict(),
        "stages": [stage.to_dict() for stage in stages],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

"""Learning a lexicon: the mean importance of each token id on a task's texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from autoprune.errors import ConfigError, DataError, UnsupportedModelError
from autoprune.pruning.families import family_of
from autoprune.pruning.protect import vocabulary_size
from autoprune.pruning.twin import twin

Batch = dict[str, Tensor]
Method = Literal["gradient", "attention", "leave_one_out"]


def build_lexicon(
    model: PreTrainedModel,
    batches: Iterable[Batch],
    *,
    method: Method = "gradient",
    prior_strength: float = 2.0,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Tensor]:
    """Learn the importance of each token id.

    Per text, importances are normalised to mean 1; per id they are averaged and shrunk towards the mean over all
    tokens, as if it had been seen ``prior_strength`` times more. Sources: gradient labels as in AdapLeR (Modarressi
    et al., 2022); attention received as in PoWER-BERT (Goyal et al., 2020).

    Args:
        model: A classifier of a text family; it is not changed.
        batches: Model inputs (``input_ids``, ``attention_mask``, ...), each (B, N).
        method: ``gradient`` (norm of gradient times embedding), ``attention`` (attention received, mean over layers),
            or ``leave_one_out`` (KL to the full text when the token is taken out; one forward per token).
        prior_strength: How many sightings the mean counts for (>= 0).
        progress: Called after each batch with the number of texts seen so far.

    Returns:
        ``{"importance": (V,) float32}``, not negative.

    Raises:
        ConfigError: An unknown method, or a negative prior strength.
        DataError: There was no text.
        UnsupportedModelError: The family has no token ids, or the model gives no logits.
    """
    methods: dict[str, Callable[[PreTrainedModel, Batch], Tensor]] = {
        "gradient": _gradient,
        "attention": _attention,
        "leave_one_out": _leave_one_out,
    }
    if method not in methods:
        raise ConfigError(f"There is no lexicon method {method!r}.", f"Known: {', '.join(sorted(methods))}.")
    if prior_strength < 0:
        raise ConfigError(f"prior_strength must be 0 or more, not {prior_strength!r}.")
    family_of(model).embeddings(model)  # says so where there are no ids
    vocabulary = vocabulary_size(model)
    copy = _copy(model, method)
    total, seen = torch.zeros(vocabulary, dtype=torch.float64), torch.zeros(vocabulary, dtype=torch.float64)
    texts = 0
    for batch in batches:
        batch = {name: tensor.to(copy.device) for name, tensor in batch.items() if name != "labels"}
        ids, real = batch["input_ids"], _real(batch)
        score = normalised(methods[method](copy, batch).float(), real)
        total.index_add_(0, ids[real].cpu(), score[real].double().cpu())
        seen.index_add_(0, ids[real].cpu(), torch.ones(int(real.sum()), dtype=torch.float64))
        texts += ids.shape[0]
        if progress is not None:
            progress(texts)
    if not texts:
        raise DataError("A lexicon cannot be learned from no texts.")
    return {"importance": shrunk(total, seen, prior_strength).float()}


def normalised(score: Tensor, real: Tensor) -> Tensor:
    """Return (B, N) scores divided by their mean over the real tokens of the row."""
    share = score.clamp(min=0) * real
    mean = share.sum(1, keepdim=True) / real.sum(1, keepdim=True)
    return share / mean.clamp(min=1e-12)


def shrunk(total: Tensor, seen: Tensor, strength: float) -> Tensor:
    """Return (V,) means, pulled towards the mean over all tokens; ids never seen get that mean.

    Args:
        total: (V,) sum of importances.
        seen: (V,) sightings.
        strength: How many sightings the overall mean counts for.
    """
    overall = total.sum() / seen.sum().clamp(min=1)
    mean = (total + strength * overall) / (seen + strength).clamp(min=1e-12)
    return torch.where(seen > 0, mean, overall)


def _real(batch: Batch) -> Tensor:
    mask = batch.get("attention_mask")
    return torch.ones_like(batch["input_ids"], dtype=torch.bool) if mask is None else mask.bool()


def _copy(model: PreTrainedModel, method: str) -> PreTrainedModel:
    copy = twin(model)
    copy.train(False)
    if method == "attention":
        for module in copy.modules():
            config: Any = getattr(module, "config", None)
            if config is not None and hasattr(config, "_attn_implementation_internal"):
                config._attn_implementation_internal = "eager"
    return copy


def _logits(model: PreTrainedModel, batch: Batch) -> Tensor:
    logits = getattr(model(**batch), "logits", None)
    if logits is None or logits.dim() != 2:
        raise UnsupportedModelError("This lexicon method needs a model that gives one row of logits per text.")
    found: Tensor = logits
    return found


def _gradient(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Return (B, N): norm of the gradient of the predicted class's log-odds times the embedding."""
    seen: list[Tensor] = []

    def catch(module: Any, args: Any, output: Tensor) -> Tensor:
        seen.append(output.detach().requires_grad_(True))
        return seen[-1]

    hook = family_of(model).embeddings(model).register_forward_hook(catch)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            batch = {name: tensor.clone() for name, tensor in batch.items()}
            logits = _logits(model, batch)
            best = logits.argmax(1, keepdim=True)
            others = logits.masked_fill(torch.zeros_like(logits, dtype=torch.bool).scatter(1, best, True), -torch.inf)
            odds = logits.gather(1, best).squeeze(1) - (others.logsumexp(1) if logits.shape[1] > 1 else 0)
            (gradient,) = torch.autograd.grad(odds.sum(), seen[0])
    finally:
        hook.remove()
    found: Tensor = torch.linalg.vector_norm((gradient * seen[0]).detach(), dim=-1)
    return found


def _attention(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Return (B, N): attention received from real tokens, mean over layers, heads and queries."""
    with torch.inference_mode():
        maps = getattr(model(**batch, output_attentions=True), "attentions", None)
    if not maps:
        raise UnsupportedModelError("This model gives no attention maps.", "Use the method 'gradient'.")
    weight = _real(batch).float()
    received: Tensor = torch.stack([(m.float().mean(1) * weight.unsqueeze(-1)).sum(1) for m in maps]).mean(0)
    return received


def _leave_one_out(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Return (B, N): KL between the full text's prediction and the one with the token masked out."""
    real = _real(batch)
    with torch.inference_mode():
        full = _logits(model, batch).log_softmax(-1)
        out = torch.zeros(real.shape, device=real.device)
        for column in range(real.shape[1]):
            mask = real.clone()
            mask[:, column] = False
            # A row whose only token would leave keeps it: a softmax over nothing is no prediction.
            mask[mask.sum(1) == 0] = real[mask.sum(1) == 0]
            less = _logits(model, {**batch, "attention_mask": mask.long()}).log_softmax(-1)
            out[:, column] = functional.kl_div(less, full, log_target=True, reduction="none").sum(-1)
    return out * real

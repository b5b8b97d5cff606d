"""Masks for the tokens that are left, in the form that the attention backend takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from autoprune.pruning.family import Family
from autoprune.pruning.selectors import take
from autoprune.pruning.state import Run


def layer_mask(family: Family, run: Run, given: Tensor | None, form: MaskForm) -> Tensor | None:
    """Return the mask that a layer gets for the tokens that are left.

    Args:
        family: Row of the table of architectures.
        run: The forward pass, after at least one stage.
        given: What the model made for the full input: (B or 1, 1, N, N) bool or float, (B, N), or None.
        form: What the backend takes where the model made none: counts may differ between rows that had no padding.

    Returns:
        (B, 1, k, k), possibly expanded, or (B, k), in the form of ``given``; None when nothing is masked.
    """
    key = id(given)
    if key not in run.masks:
        # The tensor is kept beside its mask, so that its id cannot be given to another one meanwhile.
        run.masks[key] = (given, _build(family, run, given, form))
    mask: Tensor | None = run.masks[key][1]
    return mask


def _build(family: Family, run: Run, given: Tensor | None, form: MaskForm) -> Tensor | None:
    if family.masks in ("window", "causal") and given is not None and given.dim() == 4:
        return _gathered(run, given)
    if family.masks == "square":
        return _square(run)
    if run.valid is None or family.masks == "none":
        return None
    if form.flat(given):
        return run.valid
    mask = run.valid[:, None, None, :]
    if family.masks == "causal":
        # The model left the order to the backend, which drops it as soon as there is any mask.
        order = run.positions[:, None, :, None] >= run.positions[:, None, None, :]
        mask = (mask & order) | ~run.valid[:, None, :, None]
    return form.shaped(mask, given).expand(-1, 1, run.valid.shape[1], -1)


@dataclass(frozen=True)
class MaskForm:
    """The form in which an attention backend takes masks.

    Attributes:
        backend: Its plain name.
        dtype: Type of the hidden states.
    """

    backend: str
    dtype: torch.dtype

    def flat(self, given: Tensor | None) -> bool:
        """Whether a mask says no more than which tokens are real, (B, n); the kernel keeps the order by itself."""
        return "flash" in self.backend if given is None else given.dim() == 2

    def shaped(self, mask: Tensor, given: Tensor | None) -> Tensor:
        """Return a boolean mask in the form of a given one, or as the backend wants it."""
        dtype = given.dtype if given is not None else self.dtype if self.backend == "eager" else torch.bool
        if dtype == torch.bool:
            return mask
        zero = torch.zeros((), dtype=dtype, device=mask.device)
        return torch.where(mask, zero, torch.finfo(dtype).min)


def _square(run: Run) -> Tensor:
    """Return (B or 1, 1, k or 1, k or 1) bool; such models compute with the mask and take no None."""
    if run.valid is None:
        return torch.ones(1, 1, 1, 1, dtype=torch.bool, device=run.positions.device)
    return run.valid[:, None, None, :] & run.valid[:, None, :, None]


def _gathered(run: Run, given: Tensor) -> Tensor:
    """Return rows and columns of the full mask at the tokens that are left, padding masked."""
    batch, k = run.positions.shape
    full = given.expand(batch, -1, -1, -1)
    rows = run.positions[:, None, :, None].expand(-1, full.shape[1], -1, full.shape[3])
    mask = full.gather(2, rows).gather(3, run.positions[:, None, None, :].expand(-1, full.shape[1], k, -1))
    if run.valid is None:
        return mask
    real = run.valid[:, None, None, :]
    if mask.dtype == torch.bool:
        # A padded query may look at everything: with nothing to look at it would yield NaN.
        return (mask & real) | ~run.valid[:, None, :, None]
    return mask.masked_fill(~real, torch.finfo(mask.dtype).min)


def relative_input(run: Run, name: str, given: Tensor | None, make: Callable[[int], Tensor], heads: int) -> Tensor:
    """Return a per-pair input at the tokens that are left.

    Args:
        run: The forward pass; it remembers the full input.
        name: Name of the input.
        given: What the layer received: the full (B or 1, N, N) or (1, H, N, N) at the first call, anything later.
        make: Makes the full input for a length, where the first layer would have made it itself.
        heads: Attention heads, by which a family with (B, N, N) inputs unfolds the batch.

    Returns:
        (1, H, k, k) or (B, H, k, k) for a given four-dimensional one, else (1, k, k) or (1, B * H, k, k).
    """
    if name not in run.full:
        run.full[name] = make(run.length) if given is None else given
    if name not in run.masks:
        run.masks[name] = _unfolded(_pairs(run.full[name], run), heads)
    found: Tensor = run.masks[name]
    return found


def _unfolded(pairs: Tensor, heads: int) -> Tensor:
    # DeBERTa-v2 expands to (B * H, k, k) and so takes rows of a batch only in this form.
    if pairs.dim() == 4 or pairs.shape[0] == 1:
        return pairs
    return pairs.repeat_interleave(heads, 0).unsqueeze(0)


def _pairs(full: Tensor, run: Run) -> Tensor:
    """Return rows and columns of ``full`` (1, ..., N, N) at the tokens that are left, (B, ..., k, k)."""
    batch, k = run.positions.shape
    if batch == 1:
        places = run.positions[0]
        return full.index_select(-2, places).index_select(-1, places)
    heads = full.shape[1:-2]
    ones = (1,) * len(heads)
    full = full.expand(batch, *full.shape[1:])
    rows = run.positions.view(batch, *ones, k, 1).expand(batch, *heads, k, full.shape[-1])
    columns = run.positions.view(batch, *ones, 1, k).expand(batch, *heads, k, k)
    return full.gather(-2, rows).gather(-1, columns)


def gather_rope(rope: tuple[Tensor, Tensor], run: Run) -> tuple[Tensor, Tensor]:
    """Return cos and sin, each (1 or B, N, hd), at the tokens that are left: (B, k, hd)."""
    # Layers of different kinds have angles of their own and take turns: each kind is gathered once.
    key = "rope", id(rope[0])
    if key not in run.masks:
        batch = run.positions.shape[0]
        cos, sin = (part.expand(batch, -1, -1) for part in rope)
        # The angles are kept beside, so that their id cannot be given to others meanwhile.
        run.masks[key] = rope[0], (take(cos, run.positions), take(sin, run.positions))
    found: tuple[Tensor, Tensor] = run.masks[key][1]
    return found

"""``Workload``: what is timed. Every stored latency carries the digest of one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from autoprune.errors import ConfigError, DataError

DTYPES = ("float32", "bfloat16", "int8")
DEVICES = ("cpu", "cuda", "mps")
RUNTIMES = ("eager", "compile", "onnxruntime")
ATTENTION = ("sdpa", "eager", "flash_attention_2", "flex_attention")


def check_onnxruntime(device: str, dtype: str, attention: str) -> None:
    """Refuse with ``ConfigError`` what cannot be timed with the runtime onnxruntime."""
    if device != "cpu":
        raise ConfigError(
            f"The runtime onnxruntime is timed on the CPU, not on {device}.", "Use --device cpu, or another --runtime."
        )
    if dtype != "float32":
        raise ConfigError(
            f"The runtime onnxruntime is timed in float32: {dtype} would be another model there than in PyTorch.",
            "Use --dtype float32, or another --runtime.",
        )
    if attention not in ("sdpa", "eager"):
        raise ConfigError(f"{attention} attention cannot be exported to ONNX.", "Use --attention sdpa or eager.")


def stratified_lengths(token_lengths: npt.ArrayLike, n: int) -> tuple[int, ...]:
    """Draw sequence lengths that stand for a data set: its (i + 1/2) / n quantiles.

    The draw has no randomness, and each length occurs in the data (no interpolation).

    Args:
        token_lengths: Tokens per example, shape (examples,).
        n: How many lengths to draw (>= 1). An odd number gives p50 a middle input.

    Raises:
        DataError: There is no example.
    """
    lengths = np.asarray(token_lengths, dtype=np.int64).ravel()
    if lengths.size == 0:
        raise DataError("Timing lengths cannot be drawn from an empty data set.")
    levels = (np.arange(n) + 0.5) / n
    return tuple(int(v) for v in np.quantile(lengths, levels, method="inverted_cdf"))


def resolve_lengths(
    seq_len: str | int | Sequence[int],
    token_lengths: npt.ArrayLike,
    *,
    n: int = 8,
    limit: int | None = None,
) -> tuple[tuple[int, ...], str]:
    """Turn what the user asked for into lengths and where they come from.

    Args:
        seq_len: ``256``, ``"256"``, ``"data"`` or a list such as ``"64,128"``.
        token_lengths: Tokens per example, shape (examples,); read only for ``data``.
        n: Timed inputs for ``data`` and for one fixed length.
        limit: The model's maximum number of tokens; longer lengths are refused (``data``: clipped).

    Returns:
        The lengths and the source: ``fixed:256``, ``data`` or ``list``.

    Raises:
        ConfigError: The text is none of these, or a length is out of range.
    """
    if seq_len == "data":
        drawn = stratified_lengths(token_lengths, n)
        return tuple(min(v, limit) if limit else v for v in drawn), "data"
    wanted = _parse_lengths(seq_len)
    longest = max(wanted)
    if limit and longest > limit:
        raise ConfigError(f"The model reads at most {limit} tokens, not {longest}.", "Ask for a smaller --seq-len.")
    if len(wanted) == 1:
        return wanted * n, f"fixed:{wanted[0]}"
    return wanted, "list"


def _parse_lengths(seq_len: str | int | Sequence[int]) -> tuple[int, ...]:
    parts: Sequence[Any] = [seq_len] if isinstance(seq_len, int) else seq_len
    if isinstance(seq_len, str):
        parts = seq_len.split(",")
    try:
        lengths = tuple(int(part) for part in parts)
    except (TypeError, ValueError):
        lengths = ()
    if not lengths or min(lengths) < 1:
        raise ConfigError(
            f"{seq_len!r} is no sequence length.",
            "Write a number of tokens (256), a list (64,128,256) or the word data.",
        )
    return lengths


@dataclass(frozen=True)
class Workload:
    """What is timed.

    Attributes:
        lengths: Tokens of each timed input, special tokens included; one input each.
        length_source: ``fixed:256``, ``data`` (stratified quantiles of the data set) or ``list``.
        batch_size: Rows per input, all of that input's length (no padding).
        dtype: ``float32``, ``bfloat16`` or ``int8`` (dynamic quantisation of linear layers).
        device: ``cpu``, ``cuda`` or ``mps``.
        threads: CPU threads, already resolved.
        attention: Attention backend of transformers.
        runtime: ``eager``, ``compile`` or ``onnxruntime`` (float32 on the CPU, sdpa or eager attention).

    Raises:
        ConfigError: A field is out of range.
    """

    lengths: tuple[int, ...]
    length_source: str = "list"
    batch_size: int = 1
    dtype: str = "float32"
    device: str = "cpu"
    threads: int = 1
    attention: str = "sdpa"
    runtime: str = "eager"

    def __post_init__(self) -> None:
        object.__setattr__(self, "lengths", _parse_lengths(self.lengths))
        for name, known in (("dtype", DTYPES), ("runtime", RUNTIMES), ("attention", ATTENTION)):
            if getattr(self, name) not in known:
                raise ConfigError(
                    f"A workload's {name} cannot be {getattr(self, name)!r}.", f"Known: {', '.join(known)}."
                )
        if self.device.split(":")[0] not in DEVICES:
            raise ConfigError(f"A workload's device cannot be {self.device!r}.", f"Known: {', '.join(DEVICES)}.")
        if self.batch_size < 1 or self.threads < 1:
            raise ConfigError("A workload's batch size and threads must be whole numbers from 1.")
        if self.dtype == "int8" and self.device != "cpu":
            raise ConfigError("int8 means dynamic quantisation, which runs on the CPU only.", "Use --device cpu.")
        if self.runtime == "onnxruntime":
            check_onnxruntime(self.device, self.dtype, self.attention)

    @classmethod
    def fixed(cls, tokens: int, n_inputs: int = 8, **options: Any) -> Workload:
        """Return a workload of ``n_inputs`` inputs of one length."""
        return cls(lengths=(tokens,) * n_inputs, length_source=f"fixed:{tokens}", **options)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Workload:
        """Read a workload; unknown fields are refused with ``ConfigError``."""
        unknown = sorted(set(data) - {f.name for f in fields(cls)})
        if unknown or "lengths" not in data:
            raise ConfigError(f"This is no workload: unknown fields {unknown or 'none'}, lengths needed.")
        return cls(**data)

    def to_dict(self) -> dict[str, Any]:
        """Return the workload as JSON types; ``from_dict`` gives it back."""
        return {**asdict(self), "lengths": list(self.lengths)}

    def digest(self) -> str:
        """Return the sha256 (hex) of the canonical JSON form."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def describe(self) -> str:
        """Return the workload in one line for people."""
        low, high = min(self.lengths), max(self.lengths)
        span = f"{low}" if low == high else f"{low}-{high}"
        origin = " from the data" if self.length_source == "data" else ""
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        how = "" if self.runtime == "eager" else f", {self.runtime}"
        return (
            f"batch {self.batch_size}, {span} tokens{origin}, {self.dtype}, {self.device}, {threads}, "
            f"{self.attention} attention{how}"
        )

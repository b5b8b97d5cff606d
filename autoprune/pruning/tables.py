"""Learned tables, named by the hash of their content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from autoprune.errors import AssetError

Table = dict[str, Tensor]
_PREFIX = "sha256:"


def table_key(table: Mapping[str, Tensor]) -> str:
    """Return ``sha256:<hex>`` over the names, types, shapes and bytes of a table."""
    digest = hashlib.sha256()
    for name in sorted(table):
        tensor = table[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return _PREFIX + digest.hexdigest()


class TableSet(Mapping[str, Table]):
    """Tables by ``sha256:<hex>`` of their content."""

    def __init__(self) -> None:
        self._tables: dict[str, Table] = {}

    def add(self, table: Mapping[str, Tensor]) -> str:
        """File a table and return its key; the same content has the same key.

        Raises:
            AssetError: The table is empty.
        """
        if not table:
            raise AssetError("An empty table cannot be filed.")
        key = table_key(table)
        self._tables[key] = {name: tensor.detach().clone() for name, tensor in table.items()}
        return key

    def __getitem__(self, key: str) -> Table:
        return self._tables[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)

    def to_bytes(self) -> bytes:
        """Return all tables in safetensors form."""
        flat = {
            f"{key}/{name}": t.cpu().contiguous() for key, table in self._tables.items() for name, t in table.items()
        }
        return bytes(save(flat))

    @classmethod
    def from_bytes(cls, data: bytes) -> TableSet:
        """Read tables and check their hashes.

        Raises:
            AssetError: The bytes are damaged, or a table is not what its key says.
        """
        try:
            flat = load(data)
        except (SafetensorError, ValueError) as error:
            raise AssetError(f"The tables cannot be read: {error}.", "Export the policy again.") from None
        grouped: dict[str, Table] = {}
        for path, tensor in flat.items():
            key, _, name = path.partition("/")
            grouped.setdefault(key, {})[name] = tensor
        tables = cls()
        for key, table in grouped.items():
            if tables.add(table) != key:
                raise AssetError(
                    f"The table {key} is damaged: its content has another hash.", "Export the policy again."
                )
        return tables

    def save(self, path: str | Path) -> None:
        """Write all tables to a safetensors file."""
        Path(path).write_bytes(self.to_bytes())

    @classmethod
    def load(cls, path: str | Path) -> TableSet:
        """Read a file that ``save`` wrote.

        Raises:
            AssetError: The file is missing or damaged.
        """
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise AssetError(f"The tables at {path} cannot be read: {error.strerror}.") from None
        return cls.from_bytes(data)

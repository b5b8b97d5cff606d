"""One timing at a time on a machine, whoever runs it and in whichever process."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from autoprune.errors import MeasurementError, WaitStoppedError

LOCK_TIMEOUT_S = 1800.0  # how long others may time before it is an error
_PATIENCE_S = 1.0
_SLICE_S = 0.25  # how soon a wish to stop is heard
_FOLDER = "autoprune-timing"


@contextlib.contextmanager
def timing_lock(
    timeout_s: float = LOCK_TIMEOUT_S,
    progress: Callable[[str], None] | None = None,
    folder: Path | None = None,
    stop: Callable[[], bool] | None = None,
) -> Iterator[float]:
    """Hold the machine's timing lock; yields the seconds that were waited for it.

    The lock is a file lock of the operating system, so it ends with the process that holds it. Its
    name holds the boot id: containers and Ray nodes that share a host and ``/tmp`` share the lock. A
    thread that holds the lock may take it again.

    Args:
        timeout_s: How long to wait for others.
        progress: Is told once in words when others are timing.
        folder: Where the lock file lies; None takes one for the whole machine.
        stop: Asked some times a second while others are timing: whether to wait no longer.

    Raises:
        WaitStoppedError: ``stop`` said so; the lock is not held.
        MeasurementError: Others held the lock for longer than ``timeout_s``, or the file cannot be opened.
    """
    lock = _open(lock_path(folder))
    began = time.monotonic()
    try:
        _acquire(lock, timeout_s, progress, stop or _never)
    except Timeout:
        raise MeasurementError(
            f"Other autoprune processes were timing on this machine for {timeout_s:.0f} seconds.",
            "Wait until they are done, or stop them.",
        ) from None
    except OSError as error:
        raise MeasurementError(
            f"The timing lock {lock.lock_file} cannot be taken: {error.strerror or error}.", "Delete the file."
        ) from None
    try:
        yield time.monotonic() - began
    finally:
        lock.release()


def _acquire(
    lock: FileLock, timeout_s: float, progress: Callable[[str], None] | None, stop: Callable[[], bool]
) -> None:
    patience = min(_PATIENCE_S, timeout_s)
    try:
        _wait(lock, patience, stop)
    except Timeout:
        if timeout_s <= patience:
            raise
        if progress:
            progress("Waiting: another autoprune process is timing on this machine.")
        _wait(lock, timeout_s - patience, stop)


def _wait(lock: FileLock, timeout_s: float, stop: Callable[[], bool]) -> None:
    """Take the lock within ``timeout_s``, in slices: between them ``stop`` is asked."""
    deadline = time.monotonic() + timeout_s
    while True:
        left = max(0.0, deadline - time.monotonic())
        try:
            lock.acquire(timeout=min(_SLICE_S, left), poll_interval=0.02)
            return
        except Timeout:
            if stop():
                raise WaitStoppedError(
                    "Stopped while another autoprune process was timing on this machine.",
                    "What was saved is kept; the same command goes on.",
                ) from None
            if left <= _SLICE_S:
                raise


def _never() -> bool:
    return False


def lock_path(folder: Path | None = None) -> Path:
    """Return the path of the lock file of this boot of this machine."""
    return (folder or machine_folder()) / f"{boot_id()}.lock"


def machine_folder() -> Path:
    """Return a folder that all users and processes of the machine agree on, whatever ``TMPDIR`` says."""
    shared = Path("/tmp")  # not tempfile.gettempdir(): it differs between users and jobs
    base = shared if os.name == "posix" and os.access(shared, os.W_OK) else Path(tempfile.gettempdir())
    return base / _FOLDER


def _open(path: Path) -> FileLock:
    """Make the lock file, open to all users, if it is not there."""
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.parent.chmod(0o1777)  # as /tmp: everyone may add, nobody may remove another's file
        # Made here and opened without O_CREAT by filelock: Linux refuses O_CREAT on another user's
        # file in such a folder (fs.protected_regular).
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666))
            path.chmod(0o666)  # past the umask
    except OSError as error:
        raise MeasurementError(
            f"The timing lock {path} cannot be made: {error.strerror or error}.", "Make its folder writable."
        ) from None
    return FileLock(path, mode=0o666, is_singleton=True)


def boot_id() -> str:
    """Return what names this boot of this machine: equal in all its containers, different after a restart."""
    # Boot time is derived from the uptime and may jitter by a second.
    text = f"{platform.node()}|{round(psutil.boot_time() / 60)}"
    return kernel_boot_id() or hashlib.sha256(text.encode()).hexdigest()[:32]


def kernel_boot_id() -> str:
    """Return what the kernel calls this boot; empty where it does not say, as outside Linux.

    Two that differ are two machines for sure, which does not hold for ``boot_id``.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return ""

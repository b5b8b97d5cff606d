"""Set-up for all tests: one thread, no network, and no file outside a folder that ends with the session."""

import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

# Before anything imports torch: two test processes on two cores must not fight over threads.
os.environ.update(
    OMP_NUM_THREADS="1",
    MKL_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_OFFLINE="1",
    RAY_USAGE_STATS_ENABLED="0",
)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that starts us in the background ignores Ctrl-C for us and all that we start, where tests need it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
for name in ("AUTOPRUNE_DB", "AUTOPRUNE_DEBUG"):
    os.environ.pop(name, None)

_HOME = Path(tempfile.mkdtemp(prefix="autoprune-tests-"))
os.environ["AUTOPRUNE_DATA_DIR"] = str(_HOME / "data")
# The quickstart's corpus is built once per session, or once at all for who names a folder to keep it in.
os.environ["AUTOPRUNE_CACHE_DIR"] = os.environ.get("AUTOPRUNE_TEST_CACHE_DIR") or str(_HOME / "cache")


def pytest_unconfigure() -> None:
    shutil.rmtree(_HOME, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not on_gpu:
        return
    import torch

    if not torch.cuda.is_available():
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason="no CUDA device on this machine"))

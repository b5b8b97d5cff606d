"""Whether the model hub can be asked, found out once with a short timeout.

Its client tries every file six times, 23 seconds of waiting for each; without a network nothing comes of it.
"""

from __future__ import annotations

from pathlib import Path

_TIMEOUT_S = 3.0


def offline(name: str) -> bool:
    """Say whether a model can be read from this machine alone: a folder's, or from the cache if the hub is silent.

    Args:
        name: Folder or hub id.
    """
    return not Path(name).expanduser().is_dir() and not reachable()


def reachable() -> bool:
    """Ask the hub for any answer at all, through its own client: proxies and ``HF_ENDPOINT`` count."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=_TIMEOUT_S)
    except Exception:  # noqa: BLE001 - the client's HTTP library, and so its errors, differ between versions
        return False
    return True


def not_cached(error: BaseException) -> bool:
    """Say whether transformers failed because a file is not in the hub's cache."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    return any(isinstance(one, LocalEntryNotFoundError) for one in (error, error.__cause__))


def why_offline() -> str:
    """Return in words why the hub was not asked."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "the hub is not asked, since HF_HUB_OFFLINE is set"
    return f"the hub {constants.ENDPOINT} does not answer"

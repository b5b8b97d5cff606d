"""Where things lie: files that ship with autoprune, and the user's data and cache directories."""

from __future__ import annotations

import os
from pathlib import Path

from autoprune.errors import AssetError

_PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = _PACKAGE.parent


def resource(*parts: str) -> Path:
    """Return the path of a file or folder that ships with autoprune.

    A wheel carries ``search_spaces/`` and ``dashboards/`` inside the package; in a checkout (and so in
    an editable install) they stand beside it.

    Args:
        *parts: Path below the package, such as ``"search_spaces", "quick.yaml"``.

    Raises:
        AssetError: There is no such file.
    """
    for root in (_PACKAGE, _CHECKOUT) if (_CHECKOUT / "pyproject.toml").is_file() else (_PACKAGE,):
        path = root.joinpath(*parts)
        if path.exists():
            return path
    raise AssetError(
        f"The file {'/'.join(parts)}, which ships with autoprune, is missing from {_PACKAGE}.",
        "Install autoprune again: pip install --force-reinstall --no-deps autoprune.",
    )


def data_dir() -> Path:
    """Return the folder of what must be kept (the database); made if missing.

    ``AUTOPRUNE_DATA_DIR`` overrides the system's usual place.
    """
    return _user_dir("AUTOPRUNE_DATA_DIR", "user_data_path")


def cache_dir() -> Path:
    """Return the folder of what can be made again (the quickstart's corpus); made if missing.

    ``AUTOPRUNE_CACHE_DIR`` overrides the system's usual place.
    """
    return _user_dir("AUTOPRUNE_CACHE_DIR", "user_cache_path")


def _user_dir(variable: str, usual: str) -> Path:
    given = os.environ.get(variable)
    if given:
        path = Path(given).expanduser().resolve()
    else:
        import platformdirs

        path = Path(getattr(platformdirs, usual)("autoprune", appauthor=False))
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AssetError(
            f"The folder {path} cannot be made: {error.strerror or error}.",
            f"Set {variable} to a folder that can be written.",
        ) from None
    return path

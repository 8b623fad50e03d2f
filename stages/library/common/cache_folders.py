"""Where what all checkouts share lies on this machine: downloads, checkpoints, the feature store."""

import os
from pathlib import Path

import platformdirs

from stages.library.common.console import UserError


def cache_folder() -> Path:
    """Returns the folder for what all checkouts share: $DECANT_CACHE, or `decant` in the user's cache folder."""
    chosen = os.environ.get("DECANT_CACHE")
    return named_folder("DECANT_CACHE", chosen) if chosen else platformdirs.user_cache_path("decant")


def named_folder(variable: str, chosen: str) -> Path:
    """Returns the folder that an environment variable names, there or not yet; UserError: there is something else."""
    folder = Path(chosen).expanduser()
    for path in (folder, *folder.parents):
        if path.is_symlink() or path.exists():
            if path.is_dir():
                break
            raise UserError(f"`{variable}` must be a folder, and {str(path)!r} is none. Received: {chosen!r}")
    return folder

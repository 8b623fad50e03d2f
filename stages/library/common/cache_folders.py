"""Where what all checkouts share lies on this machine: downloads, checkpoints, the feature store."""

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """Returns the folder for what all checkouts share: $DECANT_CACHE, or `decant` in the user's cache folder."""
    chosen = os.environ.get("DECANT_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("decant")

"""Trainings that were killed and not taken up again: their checkpoints lie in the cache folder until they are removed.

The run that goes on removes its own. Where code or parameters have changed since the kill, no run goes on.
"""

import contextlib
import fcntl
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from stages.library.common import downloads


@dataclass(frozen=True)
class Unfinished:
    """The checkpoints of a training.

    Attributes:
      folder: where they are.
      used: when the last epoch ended, seconds since the epoch; 0 where it did not come so far.
      size_bytes: of all files.
    """

    folder: Path
    used: float
    size_bytes: int


def find() -> list[Unfinished]:
    """Returns what lies in the cache folder, that of trainings which run now included."""
    found = []
    for folder in sorted((downloads.cache_folder() / "checkpoints").glob("*/")):
        used, size_bytes = 0.0, 0
        with contextlib.suppress(FileNotFoundError):  # a run replaces its files, and ends by removing the folder
            for path in folder.iterdir():
                stat = path.stat()
                used, size_bytes = max(used, stat.st_mtime), size_bytes + stat.st_size
        found.append(Unfinished(folder, used, size_bytes))
    return found


def remove(training: Unfinished) -> bool:
    """Deletes a training's checkpoints; returns False where a run is at it."""
    lock = training.folder.with_name(f"{training.folder.name}.lock")
    handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        shutil.rmtree(training.folder, ignore_errors=True)
        lock.unlink()  # as the end of a run does: one that waits for the lock sees that it is gone
        return True
    finally:
        os.close(handle)

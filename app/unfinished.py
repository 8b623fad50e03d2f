"""Trainings that were killed and not taken up again: their checkpoints lie in the cache folder until they are removed.

The run that goes on removes its own. Where code or parameters have changed since the kill, no run goes on.
"""

import fcntl
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from stages.library import downloads


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
        stats = [path.stat() for path in folder.iterdir()]
        used = max((stat.st_mtime for stat in stats), default=0.0)
        found.append(Unfinished(folder, used, sum(stat.st_size for stat in stats)))
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
        shutil.rmtree(training.folder)
        lock.unlink()  # as the end of a run does: one that waits for the lock sees that it is gone
        return True
    finally:
        os.close(handle)

"""Files that are whole or absent, and that are the same bytes for the same content."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.library.common import console


def sha256_bytes(content: bytes) -> str:
    """Returns the hex sha256 of some bytes."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: Path) -> str:
    """Returns the hex sha256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_json(content: Any) -> str:
    """Returns JSON with sorted keys, two-space indents and a final newline; NaN and infinity are errors."""
    return json.dumps(content, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, content: Any) -> None:
    """Writes canonical JSON atomically."""
    write_bytes(path, canonical_json(content).encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file atomically; its folder is made where it is missing."""
    with new_file(path) as partial:
        partial.write_bytes(content)


def require_room(folder: Path, size_bytes: int) -> None:
    """Raises OSError (ENOSPC) where less is free, for a library that can't be trusted to say so."""
    if shutil.disk_usage(folder).free < size_bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Gives a path to write to; the file appears under its own name only when the block ends without an error."""
    with _locked_partial(path) as partial:
        yield partial
        partial.chmod(0o644)
        partial.replace(path)


@contextlib.contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Gives an empty folder in `parent` that vanishes at the block's end; those of killed processes are removed."""
    with _locked_partial(parent / "folder") as lock:
        for folder in parent.glob(".*.scratch"):
            if not folder.with_suffix(".partial").exists():  # its lock: made before it, removed after it
                _remove(folder)
        with _vanishing(lock.with_suffix(".scratch")) as folder:
            folder.mkdir()
            yield folder


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Gives a folder to fill; it replaces `path` only when the block ends without an error. A kill leaves it or none.

    One run at a time: DVC's own lock ends with a `dvc repro` that is killed, but the stage that it started may live on.
    """
    states = "lock.partial", "replaced.partial", "partial"  # fixed, for the next run to remove what a killed one left
    lock, replaced, partial = (path.with_name(f".{path.name}.{state}") for state in states)
    waiting = f"another run is writing {path}: waiting for it"
    with locked(lock, waiting), _vanishing(replaced), _vanishing(partial):
        partial.mkdir()
        yield partial
        if path.exists():
            path.rename(replaced)
        partial.rename(path)


# SIGTERM raises an exception wherever the main thread is: between the making of a file and the note that it was made,
# and while it is removed. So what is to be removed has its name before it is made, and removing begins again.


@contextlib.contextmanager
def locked(path: Path, waiting: str = "") -> Iterator[int]:
    """Keeps other processes out of the same block; those with a `waiting` print it and wait. A kill lets them in.

    Gives the lock, a file descriptor: a process that inherits it keeps others out until it ends, too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = None
    try:
        handle = _lock(path, waiting)
        yield handle
    finally:
        if handle is None and waiting:  # stopped before the lock was had
            _remove_unlocked(path)
        else:
            _remove(path)
        if handle is not None:
            os.close(handle)


@contextlib.contextmanager
def _locked_partial(path: Path) -> Iterator[Path]:
    """Gives a new file beside a path, which vanishes with the block, and removes those of killed processes."""
    for abandoned in path.parent.glob(".*.partial"):
        _remove_unlocked(abandoned)
    partial = path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}.partial")
    with locked(partial):
        yield partial


@contextlib.contextmanager
def _vanishing(path: Path) -> Iterator[Path]:
    """Removes a file or a folder before and after the block."""
    try:
        _remove(path)
        yield path
    finally:
        _remove(path)


def _lock(path: Path, waiting: str) -> int:
    """Makes a file and locks it, which tells others that its writer lives: a kill gives the lock back."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if waiting:
                    console.say(waiting)
                fcntl.flock(handle, fcntl.LOCK_EX)
            if os.fstat(handle).st_nlink:  # else another process had it, or took it for abandoned, and removed it
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _remove_unlocked(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()


def _remove(path: Path) -> None:
    """Removes a file or a folder, if it is there, even if it is stopped in between."""
    try:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    except (console.Stopped, KeyboardInterrupt):
        _remove(path)
        raise

"""What the files hold that a parameter names, as one hash; of a folder's files that stay, each is read once."""

import contextlib
import hashlib
import os
import sqlite3
import time
from pathlib import Path

from stages.library.common import artifacts
from stages.library.sources import image_trees

SETTLED_NS = 2 * 10**9  # a file may change again within one tick of the clock of its file system
TABLE = "create table if not exists files (path blob primary key, state text, sha256 text) without rowid"


def of(path: Path, cache: Path) -> str:
    """Returns the hex sha256 of a file, or of the names and contents in a folder and what is passed over there.

    `cache` is a file that keeps the hash of each file with its size, time and number. OSError: it can't be read.
    """
    path = path.resolve()
    if not path.is_dir():
        return artifacts.sha256_file(path)
    digest = hashlib.sha256()
    with contextlib.closing(_opened(cache)) as known, known:
        for member, entry in image_trees.walk(path):
            content = "" if member.is_folder else member.rejected or _sha256(entry, known)
            digest.update(f"{len(os.fsencode(member.name))} ".encode() + os.fsencode(f"{member.name} {content}\n"))
    return digest.hexdigest()


def _opened(cache: Path) -> sqlite3.Connection:
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        known = sqlite3.connect(cache)
        known.execute(TABLE)
    except (sqlite3.Error, OSError):  # damaged, or not to be written: everything is read
        known = sqlite3.connect(":memory:")
        known.execute(TABLE)
    return known


def _sha256(entry: os.DirEntry[str], known: sqlite3.Connection) -> str:
    try:
        status = entry.stat()
        key, state = os.fsencode(entry.path), f"{status.st_size} {status.st_mtime_ns} {status.st_ino}"
        with contextlib.suppress(sqlite3.Error):
            for (found,) in known.execute("select sha256 from files where path = ? and state = ?", (key, state)):
                return str(found)
        found = artifacts.sha256_file(Path(entry.path))
    except OSError as error:
        return f"can't be read: {error.strerror}"
    if time.time_ns() - status.st_mtime_ns > SETTLED_NS:
        with contextlib.suppress(sqlite3.Error):
            known.execute("insert or replace into files values (?, ?, ?)", (key, state, found))
    return found

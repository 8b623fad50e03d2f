"""What the files hold that a parameter names, as one hash; of a folder's files that stay, each image is read once."""

import contextlib
import hashlib
import os
import sqlite3
import time
from pathlib import Path

from stages.library.common import artifacts, console
from stages.library.sources import image_trees

SETTLED_NS = 2 * 10**9  # a file may change again within one tick of the clock of its file system
TABLE = "create table if not exists contents (path blob primary key, state text, said text) without rowid"
TOGETHER = 10_000  # rows that are written to the cache at once


def of(path: Path, cache: Path) -> str:
    """Returns the hex sha256 of a file, or of the names and images in a folder and what is passed over there.

    Of what is no image only the first bytes are read. `cache` is a file that keeps what is known of each file with its
    size, time and number. OSError: it can't be read.
    """
    path = path.resolve()
    if not path.is_dir():
        with console.notice(f"reading {path}"):
            return artifacts.sha256_file(path)
    digest = hashlib.sha256()
    with contextlib.closing(_Known(cache)) as known:
        for member, entry in console.progress(image_trees.walk(path), f"reading {path}", "entries"):
            content = "" if member.is_folder else member.rejected or known.content(entry)
            digest.update(f"{len(os.fsencode(member.name))} ".encode() + os.fsencode(f"{member.name} {content}\n"))
    return digest.hexdigest()


class _Known:
    """The hashes of files that have not changed since; without use of the cache where it is damaged or locked."""

    def __init__(self, cache: Path):
        self._new: list[tuple[bytes, str, str]] = []
        with contextlib.suppress(OSError):
            cache.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._database = sqlite3.connect(cache, timeout=1)
            self._database.execute(TABLE)
        except sqlite3.Error as error:
            self.close()
            if type(error) is sqlite3.DatabaseError:  # no database
                cache.unlink(missing_ok=True)
            self._database = sqlite3.connect(":memory:")
            self._database.execute(TABLE)

    def content(self, entry: os.DirEntry[str]) -> str:
        """Returns the hex sha256 of an image, what another file is, or why it can't be read."""
        try:
            status = entry.stat()
            key, state = os.fsencode(entry.path), f"{status.st_size} {status.st_mtime_ns} {status.st_ino}"
            with contextlib.suppress(sqlite3.Error):
                found = self._database.execute("select said from contents where path = ? and state = ?", (key, state))
                for (known,) in found:
                    return str(known)
            read = image_trees.what_else(entry.path, entry.name) or artifacts.sha256_file(Path(entry.path))
        except OSError as error:
            return f"can't be read: {error.strerror}"
        if time.time_ns() - status.st_mtime_ns > SETTLED_NS:
            self._new.append((key, state, read))
            if len(self._new) == TOGETHER:
                self._write()
        return read

    def close(self) -> None:
        if hasattr(self, "_database"):
            self._write()
            self._database.close()

    def _write(self) -> None:
        with contextlib.suppress(sqlite3.Error), self._database:
            self._database.executemany("insert or replace into contents values (?, ?, ?)", self._new)
        self._new.clear()

"""Decisions about labels, written to corrections.csv so that none is lost: of another window, or another program."""

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from stages.library.common import artifacts
from stages.library.common.console import UserError
from stages.library.preparation import corrections
from stages.library.preparation.corrections import Correction


class ConflictError(UserError):
    """What was to be undone is not there any more."""


class Ledger:
    """The rows of a file of corrections. Each change reads the file anew, under a lock, and replaces it as a whole."""

    def __init__(self, path: Path):
        self.path = path
        self._changing = threading.Lock()  # so that only another program's lock is waited for with a message

    def decisions(self) -> dict[str, Correction]:
        """Returns the row that counts of each image, in the order of the rows; UserError where the file is damaged."""
        found: dict[str, Correction] = {}
        for row in corrections.read(self.path):
            found.pop(row.key, None)
            found[row.key] = row
        return found

    def decide(self, key: str, action: str, label: str, note: str, classes: Collection[str]) -> Correction:
        """Adds a row and returns it; UserError where it breaks a rule, or its label is none of the classes."""
        row = Correction(key, action, label, datetime.now(UTC).strftime(corrections.WHEN), note)
        if problem := corrections.wrong(row):
            raise UserError(problem)
        if label and label not in classes:
            raise UserError(f"there is no class {label!r:.80} in this data set")
        with self._changed() as rows:
            rows.append(row)
        return row

    def undo(self, row: Correction) -> None:
        """Takes a row back, so that the one before it counts again; ConflictError where it does not count now."""
        with self._changed() as rows:
            last = max((number for number, other in enumerate(rows) if other.key == row.key), default=None)
            if last is None or rows[last] != row:
                raise ConflictError("another window has changed this since; it stands here as it is now")
            del rows[last]

    @contextmanager
    def _changed(self) -> Iterator[list[Correction]]:
        lock = self.path.with_name(f".{self.path.name}.lock.partial")
        with self._changing, artifacts.locked(lock, f"another program is writing {self.path}: waiting for it"):
            rows = corrections.read(self.path)
            yield rows
            corrections.write(self.path, rows)

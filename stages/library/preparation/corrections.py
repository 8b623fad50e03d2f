"""corrections.csv: what a person has decided about single images, by content, so that it holds after renaming.

A row for each decision: sha256 (an image's key: of the file's bytes, or of an array's shape and pixels), action, label,
when (UTC), note. `relabel` gives the class `label`; `drop` leaves the image out; `keep` says that it was looked at and
is right, and changes nothing. Of the rows of one image the last one counts.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.library.common import artifacts, console, guarded_files, tables
from stages.library.common.console import UserError

COLUMNS: dict[str, type] = dict.fromkeys(("sha256", "action", "label", "when", "note"), str)
ACTIONS = KEEP, RELABEL, DROP = "keep", "relabel", "drop"
KEY, WHEN = re.compile(r"[0-9a-f]{64}"), "%Y-%m-%dT%H:%M:%SZ"
NOTE_LENGTH = 1000
DROPPED = "dropped by a correction"  # the reason in rejected.csv


class Correction(NamedTuple):
    """A row, in the order of COLUMNS."""

    key: str
    action: str
    label: str  # empty but for RELABEL
    when: str
    note: str


def read(path: Path) -> list[Correction]:
    """Returns all rows in order; raises UserError for the first one that breaks a rule."""
    found = [Correction(*(cells[name] for name in COLUMNS)) for cells in tables.read_csv(path, COLUMNS)]
    for number, row in enumerate(found, 1):
        if problem := wrong(row):
            raise UserError(f"{path}, row {number}: {problem}. Mend or remove the row")
    return found


def wrong(row: Correction) -> str:
    """Returns the rule that a row breaks, with the value, or ""."""
    if not KEY.fullmatch(row.key):
        return f"`sha256` must be 64 hex digits. Received: {guarded_files.shortened(row.key)}"
    if row.action not in ACTIONS:
        return f"`action` must be among {', '.join(ACTIONS)}. Received: {guarded_files.shortened(row.action)}"
    if bool(row.label) != (row.action == RELABEL):
        rule = "the new class" if row.action == RELABEL else f"empty where `action` is {row.action}"
        return f"`label` must be {rule}. Received: {guarded_files.shortened(row.label)}"
    if not _is_time(row.when):
        return f"`when` must be a time in UTC, as 2026-01-31T23:59:59Z. Received: {guarded_files.shortened(row.when)}"
    if len(row.note) > NOTE_LENGTH:
        return f"`note` must have at most {NOTE_LENGTH} characters. Received: {len(row.note)}"
    return ""


def _is_time(text: str) -> bool:
    try:
        return datetime.strptime(text, WHEN).strftime(WHEN) == text
    except ValueError:
        return False


def write(path: Path, rows: Sequence[Correction]) -> None:
    """Writes all rows; the file is whole at any time."""
    artifacts.write_bytes(path, tables.as_csv(COLUMNS, rows).encode())


@dataclass(frozen=True)
class Corrections:
    """What the rows come to: the last one of each image."""

    path: Path
    by_key: dict[str, tuple[int, Correction]]  # with the number of its row, from 1
    replaced: int  # rows that a later one of the same image takes the place of

    @classmethod
    def load(cls, path: Path) -> "Corrections":
        """Reads a file as `read` does."""
        rows = read(path)
        by_key = {row.key: (number, row) for number, row in enumerate(rows, 1)}
        return cls(path, by_key, len(rows) - len(by_key))

    def drops(self, key: str) -> bool:
        """Tells whether an image is to be left out."""
        return key in self.by_key and self.by_key[key][1].action == DROP

    def relabelled(self, keys: Collection[str], classes: Collection[str]) -> dict[str, str]:
        """Returns key -> new class of those images of the data set that get one.

        UserError where it is none of `classes`, which are the data set's own: the label may have been renamed.
        """
        found = {}
        for key in set(keys) & self.by_key.keys():
            number, row = self.by_key[key]
            if row.action == RELABEL:
                if row.label not in classes:
                    shown = console.listed(sorted(classes))
                    problem = f"`label` must be a class of the data set, {shown}"
                    received = guarded_files.shortened(row.label)
                    raise UserError(f"{self.path}, row {number}: {problem}. Received: {received}. Mend or remove it")
                found[key] = row.label
        return found

    def said(self, keys: Sequence[str]) -> str:
        """Returns what is done to a data set of these images, as one phrase, "" where there is no row."""
        if not self.by_key:
            return ""
        here = set(keys) & self.by_key.keys()
        actions = [self.by_key[key][1].action for key in here]
        absent = len(self.by_key) - len(here)
        counted = [f"{console.count(actions.count(RELABEL), 'image')} relabelled, {actions.count(DROP):,} dropped"]
        counted += [f"{actions.count(KEEP):,} kept as they are"] * (KEEP in actions)
        counted += [f"{absent:,} of other images"] * bool(absent)
        counted += [f"{console.count(self.replaced, 'row')} replaced by later ones"] * bool(self.replaced)
        return ", ".join(counted)

    def kept(self, keys: Sequence[str]) -> np.ndarray:
        """Tells which images are not dropped, bool (n,)."""
        return np.array([not self.drops(key) for key in keys], bool)

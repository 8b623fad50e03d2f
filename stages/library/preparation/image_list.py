"""What is kept of every image while a data set is read, for some things are known only when all have been."""

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stages.library.common import hashing
from stages.library.records.dataset_file import SPLITS

OPEN = -1  # the split of an image that is not decided yet


def _column(place: int, meaning: str) -> Any:
    return property(lambda images: np.asarray(images._columns[place]), doc=meaning)


class ImageList:
    """Columns, in the order in which the images came; about 160 bytes each."""

    def __init__(self) -> None:
        self.keys: list[str] = []  # hex sha256
        self.example = ""  # the first name
        self._classes: dict[str, int] = {}  # by their first image
        self._columns: list[array[Any]] = [array(code) for code in "bQQdl"]

    decided = _column(0, "Ranks among SPLITS or OPEN, int8 (n,).")
    numbers = _column(1, "Numbers of the keys, uint64 (n,).")
    groups = _column(2, "Numbers of the groups' names, or of the keys of images without a group, uint64 (n,).")
    weights = _column(3, "Float64 (n,).")

    def __len__(self) -> int:
        return len(self.keys)

    def add(self, key: str, name: str, text: str, split: str | None, group: str | None, weight: float) -> None:
        """Takes an image: its key, name, class, split if that is decided, group if it has one, and weight."""
        self.keys.append(key)
        self.example = min(self.example or name, name)
        numbers = hashing.number(key), hashing.number(key if group is None else group)
        label = self._classes.setdefault(text, len(self._classes))
        row = OPEN if split is None else SPLITS.index(split), *numbers, weight, label
        for column, value in zip(self._columns, row, strict=True):
            column.append(value)

    def corrected(self, relabelled: Mapping[str, str], kept: np.ndarray) -> "ImageList":
        """Returns the images that are kept, bool (n,), with another class where `relabelled` gives their key one."""
        texts, found, rows = list(self._classes), ImageList(), np.flatnonzero(kept).tolist()
        found.example = self.example
        found.keys = [self.keys[row] for row in rows]
        for column, own in zip(found._columns[:-1], self._columns, strict=False):
            column.extend(own[row] for row in rows)
        for row, key in zip(rows, found.keys, strict=True):
            text = relabelled.get(key, texts[self._columns[-1][row]])
            found._columns[-1].append(found._classes.setdefault(text, len(found._classes)))
        return found

    @property
    def in_group(self) -> np.ndarray:
        """Whether an image has a group, bool (n,)."""
        return np.asarray(self.groups != self.numbers)

    @property
    def classes(self) -> set[str]:
        """The names of the images' classes."""
        return set(self._classes)

    def labels(self, classes: Sequence[str]) -> np.ndarray:
        """Returns the rank of each image's class among `classes`, int64 (n,)."""
        ranks = {text: rank for rank, text in enumerate(classes)}
        of_class = np.array([ranks[text] for text in self._classes], np.int64)
        return np.asarray(of_class[self._columns[-1]])

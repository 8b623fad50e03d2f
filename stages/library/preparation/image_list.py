"""What is kept of every image while a data set is read, for some things are known only when all have been."""

from array import array
from collections.abc import Sequence

import numpy as np

from stages.library.common import hashing
from stages.library.records.dataset_file import SPLITS

OPEN = -1  # the split of an image that is not decided yet


class ImageList:
    """Columns, in the order in which the images came; about 160 bytes each."""

    def __init__(self) -> None:
        self.keys: list[str] = []  # hex sha256
        self.example = ""  # the first name
        self._classes: dict[str, int] = {}  # by their first image
        self._columns = {name: array(code) for name, code in zip(("text", "split", "in_group"), "lbb", strict=True)}
        self._numbers, self._groups, self._weights = array("Q"), array("Q"), array("d")

    def __len__(self) -> int:
        return len(self.keys)

    def add(self, key: str, name: str, text: str, split: str | None, group: str | None, weight: float) -> None:
        """Takes an image: its key, name, class, split if that is decided, group if it has one, and weight."""
        number = hashing.number(key)
        self.keys.append(key)
        self.example = min(self.example or name, name)
        self._columns["text"].append(self._classes.setdefault(text, len(self._classes)))
        self._columns["split"].append(OPEN if split is None else SPLITS.index(split))
        self._columns["in_group"].append(group is not None)
        self._numbers.append(number)
        self._groups.append(number if group is None else hashing.number(group))
        self._weights.append(weight)

    @property
    def classes(self) -> set[str]:
        """The names of the images' classes."""
        return set(self._classes)

    def labels(self, classes: Sequence[str]) -> np.ndarray:
        """Returns the rank of each image's class among `classes`, int64 (n,)."""
        ranks = {text: rank for rank, text in enumerate(classes)}
        of_class = np.array([ranks[text] for text in self._classes], np.int64)
        return np.asarray(of_class[self._columns["text"]])

    @property
    def decided(self) -> np.ndarray:
        """Ranks among SPLITS or OPEN, int8 (n,)."""
        return np.asarray(self._columns["split"])

    @property
    def in_group(self) -> np.ndarray:
        """Whether an image has a group, bool (n,)."""
        return np.asarray(self._columns["in_group"]).astype(bool)

    @property
    def numbers(self) -> np.ndarray:
        """Numbers of the keys, uint64 (n,)."""
        return np.asarray(self._numbers)

    @property
    def groups(self) -> np.ndarray:
        """Numbers of the groups' names, or of the keys of images without a group, uint64 (n,)."""
        return np.asarray(self._groups)

    @property
    def weights(self) -> np.ndarray:
        """Float64 (n,)."""
        return np.asarray(self._weights)

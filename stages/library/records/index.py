"""Which record stands where in a data set's shards, so that any of them can be read in any order."""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from stages.library.common.console import UserError
from stages.library.records import dataset_file, tfrecord

OPEN_FILES = 64
KEY = np.dtype("S64")


@dataclass(frozen=True)
class RecordIndex:
    """The records of some shards, in order; about 150 bytes of memory each.

    Attributes:
      paths: the shards.
      counts: records of each.
      keys: sha256 hex of each image, bytes "S64" (n,).
      labels: int64 (n,).
      offsets, sizes: where the serialized tf.train.Example stands in its shard, bytes, int64 (n,).
    """

    paths: tuple[Path, ...]
    counts: tuple[int, ...]
    keys: np.ndarray
    labels: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray

    def serialized(self, rows: Sequence[int] | np.ndarray) -> Iterator[bytes]:
        """Yields the serialized examples of some rows; neighbours are read fastest."""
        shards = np.searchsorted(np.cumsum(self.counts), rows, side="right")
        opened: dict[int, BinaryIO] = {}
        try:
            for row, shard in zip(rows, shards.tolist(), strict=True):
                if shard not in opened:
                    if len(opened) == OPEN_FILES:
                        opened.pop(next(iter(opened))).close()
                    opened[shard] = self.paths[shard].open("rb")
                opened[shard].seek(int(self.offsets[row]))
                yield opened[shard].read(int(self.sizes[row]))
        finally:
            for file in opened.values():
                file.close()


def check(index: RecordIndex, dataset: Mapping[str, Any], folder: Path) -> None:
    """Checks that the shards of all splits hold the images of a data set, and no others.

    Args:
      index: of all splits.
      dataset: content of dataset.json, whose "content_sha256" covers split, key and class of every image.
      folder: of the shards, for the error.

    Raises:
      UserError: a shard is of another data set.
    """
    classes = dict(enumerate(dataset["classes"]))

    def entries() -> Iterator[tuple[str, str, str]]:
        start = 0
        for path, count in zip(index.paths, index.counts, strict=True):
            some = slice(start, start + count)
            for key, label in zip(index.keys[some].tolist(), index.labels[some].tolist(), strict=True):
                yield path.name.partition("-")[0], key.decode(), str(classes.get(label))
            start += count

    if dataset_file.content_sha256(entries()) != dataset["content_sha256"]:
        raise UserError(
            f"{folder}: the shards hold other images than its dataset.json says. Run: dvc repro -f tfrecord"
        )


def build(paths: Iterable[Path]) -> RecordIndex:
    """Reads some shards, each record verified against its checksums, and returns where everything is.

    Raises:
      UserError: a shard is damaged.
    """
    keys = bytearray()
    numbers = array("q")  # a tenth of the memory of Python's own numbers
    counts, shards = [], []
    for path in paths:
        shards.append(path)
        count = 0
        for offset, serialized in tfrecord.frames(path):
            record = tfrecord.parse(path, serialized)
            keys += record.key.encode()[: KEY.itemsize].ljust(KEY.itemsize, b"\0")
            numbers.extend((record.label, offset, len(serialized)))
            count += 1
        counts.append(count)
    labels, offsets, sizes = np.array(numbers, np.int64).reshape(-1, 3).T.copy()
    return RecordIndex(tuple(shards), tuple(counts), np.frombuffer(keys, KEY), labels, offsets, sizes)

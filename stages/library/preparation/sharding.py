"""Images into TFRecord shards: which shard each goes to, and in which order they stand there.

Both are decided by the image's content, so the shards' bytes do not depend on the order in which a data set yields
its images. Records are spooled to disk while they come, for their split is known only when all have come; then each
shard is sorted by itself, so that memory holds the records of one. While shards are written the spool lies beside them.
"""

import struct
from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np

from stages.library.common import console, hashing
from stages.library.preparation.splits import Split
from stages.library.records import manifest, tfrecord
from stages.library.records.tfrecord import SPLITS, Record

SPOOL_BYTES = 64 << 20
# Of an image in the spool: height, width, label, and how many bytes its texts have; these follow, and then the image.
SPOOLED = struct.Struct("<QQQ4I")


class Spool:
    """Records in the order in which they came, in a folder: one file for the shards of one number of all splits."""

    def __init__(self, folder: Path, shards: int):
        self._folder, self._shards = folder, shards
        self._paths = [folder / f"{shard:05d}.spool" for shard in range(shards)]
        self._rows, self._lengths = [array("q") for _ in self._paths], [array("q") for _ in self._paths]
        self._count = 0
        self._pending: dict[int, list[Record]] = defaultdict(list)
        self._pending_bytes = 0

    def add(self, record: Record) -> None:
        """Takes a record; its label is filled in later, when all classes are known."""
        shard = int(hashing.uniform(record.key, "shard", 0) * self._shards)
        self._rows[shard].append(self._count)
        self._count += 1
        self._pending[shard].append(record)
        self._pending_bytes += len(record.encoded)
        if self._pending_bytes > SPOOL_BYTES:
            self._flush()

    def write_shards(
        self, classes: Sequence[str], split: Split, weights: np.ndarray, relabelled: Mapping[str, str]
    ) -> None:
        """Writes every shard, sorted by (key, filename), with ranks among `classes` as labels, and the manifest.

        A record on no side of the split is left out; one whose key is in `relabelled` gets another class.
        """
        self._flush()
        labels = {text: label for label, text in enumerate(classes)}
        shards = [
            (path, shard, split.sides == rank)
            for rank, name in enumerate(SPLITS)
            for shard, path in enumerate(tfrecord.shard_paths(self._folder, name, self._shards))
        ]
        with manifest.writer(self._folder) as write_shard:
            for path, shard, wanted in console.progress(shards, "write", "shards"):
                found = sorted(self._read(shard, wanted), key=lambda item: (item[1].key, item[1].filename))
                rows = np.array([row for row, _ in found], np.int64)
                texts = [relabelled.get(record.key, record.text) for _, record in found]
                records = [
                    replace(record, label=labels[text], text=text)
                    for (_, record), text in zip(found, texts, strict=True)
                ]
                write_shard(path, records, split.units[rows], weights[rows])
        for spool in self._paths:
            spool.unlink(missing_ok=True)

    def order(self) -> np.ndarray:
        """Returns the number that `records` yields with each record, int64 (n,)."""
        self._flush()
        return np.concatenate([np.asarray(rows) for rows in self._rows])

    def records(self) -> Iterator[tuple[int, Record]]:
        """Yields every record, each with the number of those that came before it."""
        self._flush()
        for shard in range(self._shards):
            yield from self._read(shard, np.ones(self._count, bool))

    def _read(self, shard: int, wanted: np.ndarray) -> Iterator[tuple[int, Record]]:
        """Yields the wanted records of a spool file, each with the number of those that came before it."""
        rows, lengths = np.asarray(self._rows[shard]), np.asarray(self._lengths[shard])
        offsets = np.cumsum(lengths) - lengths
        if len(rows):
            with self._paths[shard].open("rb") as file:
                for index in np.flatnonzero(wanted[rows]).tolist():
                    file.seek(int(offsets[index]))
                    yield int(rows[index]), _unpacked(file.read(int(lengths[index])))

    def _flush(self) -> None:
        for shard, waiting in self._pending.items():
            with self._paths[shard].open("ab") as file:
                for content in map(_packed, waiting):
                    file.write(content)
                    self._lengths[shard].append(len(content))
        self._pending.clear()
        self._pending_bytes = 0


def _packed(record: Record) -> bytes:
    """Returns a record for the spool, in a fraction of the time that a tf.train.Example takes."""
    texts = [text.encode(errors="surrogatepass") for text in (record.key, record.format, record.text, record.filename)]
    head = SPOOLED.pack(record.height, record.width, record.label, *map(len, texts))
    return b"".join([head, *texts, record.encoded])


def _unpacked(content: bytes) -> Record:
    height, width, label, *lengths = SPOOLED.unpack_from(content)
    ends = list(accumulate(lengths, initial=SPOOLED.size))
    texts = (content[slice(*both)].decode(errors="surrogatepass") for both in pairwise(ends))
    key, kind, text, filename = texts
    return Record(key, content[ends[-1] :], kind, height, width, label, text, filename)

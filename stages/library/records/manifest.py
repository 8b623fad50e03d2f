"""manifest.parquet: which record stands where in a data set's shards, so that nobody reads them all to find one.

A row for each record, in the order of the shards: key, filename (bytes, for a name need not be UTF-8), split, label,
shard (name of the file), offset and length of the serialized tf.train.Example in it, in bytes.
"""

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.library.common.console import UserError
from stages.library.records import dataset_file, tfrecord
from stages.library.records.dataset_file import REMEDY
from stages.library.records.tfrecord import SPLITS, Record

NAME = "manifest.parquet"
OPEN_FILES = 64
ROWS_PER_BATCH = 1 << 16
KEY = np.dtype("S64")
TYPES = {
    "key": pa.string(),
    "filename": pa.binary(),
    "split": pa.string(),
    "label": pa.int64(),
    "shard": pa.string(),
    "offset": pa.int64(),
    "length": pa.int64(),
}
SCHEMA = pa.schema([pa.field(name, kind, nullable=False) for name, kind in TYPES.items()])


@dataclass(frozen=True)
class Manifest:
    """The records of some splits, in order; about 150 bytes of memory each.

    Attributes:
      paths: the shards.
      counts: records of each.
      keys: sha256 hex of each image, bytes "S64" (n,).
      filenames: where the data set had them, bytes, of Arrow (n,).
      labels: int64 (n,).
      offsets, lengths: where the serialized tf.train.Example stands in its shard, bytes, int64 (n,).
    """

    paths: tuple[Path, ...]
    counts: tuple[int, ...]
    keys: np.ndarray
    filenames: pa.ChunkedArray
    labels: np.ndarray
    offsets: np.ndarray
    lengths: np.ndarray

    def names(self) -> list[str]:
        """Returns the file names as text; bytes that are no UTF-8 are lone surrogates."""
        return [name.decode(errors="surrogateescape") for name in self.filenames.to_pylist()]

    def shards(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Returns the number of each row's shard among `paths`, int64 (n,)."""
        return np.searchsorted(np.cumsum(self.counts), rows, side="right")

    def records(self, rows: Sequence[int] | np.ndarray) -> Iterator[Record]:
        """Yields some records; neighbours are read fastest.

        Raises:
          UserError: a record is damaged, or another one than its row says.
        """
        return (record for record, _ in self._read(rows))

    def serialized(self, rows: Sequence[int] | np.ndarray) -> Iterator[bytes]:
        """Yields the serialized examples of some records, as `records` does."""
        return (content for _, content in self._read(rows))

    def _read(self, rows: Sequence[int] | np.ndarray) -> Iterator[tuple[Record, bytes]]:
        opened: dict[int, BinaryIO] = {}
        try:
            for row, shard in zip(rows, self.shards(rows).tolist(), strict=True):
                if shard not in opened:
                    if len(opened) == OPEN_FILES:
                        opened.pop(next(iter(opened))).close()
                    opened[shard] = self.paths[shard].open("rb")
                place = int(self.offsets[row]), int(self.lengths[row])
                content = tfrecord.read_at(opened[shard], self.paths[shard], *place)
                record = tfrecord.parse(self.paths[shard], content)
                if (record.key.encode(), record.label) != (self.keys[row], self.labels[row]):
                    stated = f"{self.keys[row].decode()}, class {self.labels[row]}, as in {NAME}"
                    raise UserError(
                        f"{self.paths[shard]}: the record at byte {self.offsets[row]} must be {stated}. "
                        f"Received: {record.key[: KEY.itemsize]!r}, class {record.label}. {REMEDY}"
                    )
                yield record, content
        finally:
            for file in opened.values():
                file.close()

    def check(self, dataset: Mapping[str, Any]) -> None:
        """Checks that the shards of all splits hold the images of a data set, and no others.

        Args:
          dataset: content of dataset.json, whose "content_sha256" covers split, key and class of every image.

        Raises:
          UserError: they are of another data set.
        """
        classes = dict(enumerate(dataset["classes"]))
        splits = (path.name.partition("-")[0] for path in self.paths)
        by_row = (split for split, count in zip(splits, self.counts, strict=True) for _ in range(count))
        rows = zip(by_row, self.keys, self.labels, strict=True)  # NumPy's own numbers: lists of all would be large
        entries = ((split, key.decode(), str(classes.get(int(label)))) for split, key, label in rows)
        if dataset_file.content_sha256(entries) != dataset["content_sha256"]:
            raise UserError(
                f"{self.paths[0].parent}: the shards hold other images than its dataset.json says. {REMEDY}"
            )


@contextlib.contextmanager
def writer(folder: Path) -> Iterator[Callable[[Path, Sequence[Record]], int]]:
    """Writes shards and their manifest, a row group for each, in memory independent of their number.

    Yields:
      A function that writes the records of one shard, given its path, and returns their number. Call it for each split
      after the other, shard after shard.
    """
    with pq.ParquetWriter(
        folder / NAME,
        SCHEMA,
        compression="zstd",
        use_dictionary=["split", "shard"],
        write_statistics=False,
        write_page_checksum=True,
    ) as file:

        def write(path: Path, records: Sequence[Record]) -> int:
            lengths = np.array(tfrecord.write_shard(path, records), np.int64)
            columns = {
                "key": [record.key for record in records],
                "filename": [record.filename.encode(errors="surrogateescape") for record in records],
                "split": [path.name.partition("-")[0]] * len(records),
                "label": [record.label for record in records],
                "shard": [path.name] * len(records),
                "offset": tfrecord.ends(lengths) - lengths - tfrecord.FOOTER_BYTES,
                "length": lengths,
            }
            file.write_table(pa.table(columns, SCHEMA))
            return len(records)

        yield write


def read(folder: Path, splits: Collection[str] = SPLITS) -> Manifest:
    """Reads where the records of some splits stand; what they hold is verified when they are read.

    Args:
      folder: of the shards.
      splits: they follow each other as in SPLITS, whatever their order here.

    Raises:
      UserError: shards or their manifest are missing or damaged, or don't belong together.
    """
    path = folder / NAME
    paths = tuple(shard for split in SPLITS if split in splits for shard in tfrecord.find_shards(folder, split))
    if not path.exists():
        raise UserError(f"{path} is missing, for an earlier version wrote the shards. Run: dvc repro tfrecord")
    try:
        table = _rows(path, paths)
        keys = table["key"].to_numpy().astype(KEY)
        labels, offsets, lengths = (table[name].to_numpy() for name in ("label", "offset", "length"))
        found = pc.index_in(table["shard"], pa.array([shard.name for shard in paths])).to_numpy()
        counts = np.bincount(found, minlength=len(paths))
        _check(found, counts, offsets, lengths, [shard.stat().st_size for shard in paths])
    except (OSError, ValueError, MemoryError, pa.ArrowException) as error:
        raise UserError(f"{path} can't be used: {' '.join(str(error).split())}. {REMEDY}") from error
    return Manifest(paths, tuple(counts.tolist()), keys, table["filename"], labels, offsets, lengths)


def _rows(path: Path, shards: Sequence[Path]) -> pa.Table:
    """Returns the rows of some shards; ValueError for another schema, or more rows than these can hold."""
    names = pa.array([shard.name for shard in shards])
    most = sum(shard.stat().st_size for shard in shards) // tfrecord.FRAME_BYTES
    found: list[pa.RecordBatch] = []
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        if not file.schema_arrow.equals(SCHEMA):
            raise ValueError(f"its columns must be {', '.join(SCHEMA.names)}. Received: {file.schema_arrow.names}")
        for batch in file.iter_batches(ROWS_PER_BATCH):
            found.append(batch.filter(pc.is_in(batch["shard"], names)))
            if sum(map(len, found)) > most:
                raise ValueError(f"the shards can't hold more than {most} records. Received: {sum(map(len, found))}")
    table = pa.Table.from_batches(found, SCHEMA)
    hexadecimal = pc.match_substring_regex(table["key"], "^[0-9a-f]{64}$")
    if not pc.all(hexadecimal, min_count=0).as_py():
        raise ValueError(f"`key` must be a sha256 in hex. Received: {table['key'].filter(pc.invert(hexadecimal))[0]}")
    return table


def _check(
    found: np.ndarray, counts: np.ndarray, offsets: np.ndarray, lengths: np.ndarray, sizes: Sequence[int]
) -> None:
    """Raises ValueError where the rows do not fill their shards, from the first byte to the last."""
    if (np.diff(found) < 0).any():
        raise ValueError("its rows must be in the order of the shards")
    if len(lengths) and not 0 <= lengths.min() <= lengths.max() <= max(sizes):
        raise ValueError(f"`length` must be of 0 to {max(sizes)}. Received: {lengths.min()} to {lengths.max()}")
    last = np.cumsum(counts)
    for size, start, stop in zip(sizes, last - counts, last, strict=True):
        ends = tfrecord.ends(lengths[start:stop])
        expected = ends - lengths[start:stop] - tfrecord.FOOTER_BYTES
        wrong = np.flatnonzero(offsets[start:stop] != expected)
        if len(wrong):
            row = wrong[0]
            raise ValueError(f"`offset` must be {expected[row]} in row {start + row}. Received: {offsets[start + row]}")
        if (end := int(ends[-1]) if len(ends) else 0) != size:
            raise ValueError(f"the records of a shard must end where it does, at {size} bytes. Received: {end}")

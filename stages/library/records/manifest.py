"""manifest.parquet: which record stands where in a data set's shards, so that nobody reads them all to find one.

A row for each record, in the order of the shards: key, filename (bytes, for a name need not be UTF-8), split, label,
group (records of one number stay on one side of every split, see `stratification`), weight (of its loss), shard (name
of the file), offset and length of the serialized tf.train.Example in it, in bytes.
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

from stages.library.common import hashing
from stages.library.common.console import UserError
from stages.library.records import dataset_file, tfrecord
from stages.library.records.dataset_file import REMEDY
from stages.library.records.tfrecord import SPLITS, Record

NAME = "manifest.parquet"
OPEN_FILES = 64
ROWS_PER_BATCH = 1 << 16
KEY = np.dtype("S64")
COLUMNS = "key", "filename", "split", "label", "group", "weight", "shard", "offset", "length"
KINDS = {"filename": pa.binary(), **dict.fromkeys(("label", "offset", "length"), pa.int64())}
KINDS |= {"group": pa.uint64(), "weight": pa.float64()}
SCHEMA = pa.schema([pa.field(name, KINDS.get(name, pa.string()), nullable=False) for name in COLUMNS])
STORED = {"compression": "zstd", "write_statistics": False, "write_page_checksum": True}


@dataclass(frozen=True)
class Manifest:
    """The records of some splits, in order; about 150 bytes of memory each."""

    paths: tuple[Path, ...]  # of the shards
    counts: tuple[int, ...]  # records of each
    keys: np.ndarray  # sha256 hex of each image, bytes "S64" (n,)
    filenames: pa.ChunkedArray  # where the data set had them, bytes (n,)
    labels: np.ndarray  # int64 (n,)
    groups: np.ndarray  # uint64 (n,)
    weights: np.ndarray  # float64 (n,), > 0
    offsets: np.ndarray  # of the serialized tf.train.Example in its shard, bytes, int64 (n,)
    lengths: np.ndarray

    def names(self) -> list[str]:
        """Returns the file names as text; bytes that are no UTF-8 are lone surrogates."""
        return [name.decode(errors="surrogateescape") for name in self.filenames.to_pylist()]

    def shards(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Returns the number of each row's shard among `paths`, int64 (n,)."""
        return np.searchsorted(np.cumsum(self.counts), rows, side="right")

    def records(self, rows: Sequence[int] | np.ndarray) -> Iterator[Record]:
        """Yields some records, neighbours fastest; UserError: one is damaged, or another one than its row says."""
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
                path, offset = self.paths[shard], int(self.offsets[row])
                content = tfrecord.read_at(opened[shard], path, offset, int(self.lengths[row]))
                record = tfrecord.parse(path, content)
                if (record.key.encode(), record.label) != (self.keys[row], self.labels[row]):
                    raise UserError(
                        f"{path}: the record at byte {offset} must be {self.keys[row].decode()}, class "
                        f"{self.labels[row]}, as in {NAME}. Received: {record.key[: KEY.itemsize]!r}, class "
                        f"{record.label}. {REMEDY}"
                    )
                yield record, content
        finally:
            for file in opened.values():
                file.close()

    def check(self, dataset: Mapping[str, Any]) -> None:
        """Raises UserError where the shards of all splits hold other images than a dataset.json says."""
        classes = dict(enumerate(dataset["classes"]))
        splits = (path.name.partition("-")[0] for path in self.paths)
        by_row = (split for split, count in zip(splits, self.counts, strict=True) for _ in range(count))
        rows = zip(by_row, self.keys, self.labels, strict=True)  # NumPy's own numbers: lists of all would be large
        entries = ((split, key.decode(), str(classes.get(int(label)))) for split, key, label in rows)
        if dataset_file.content_sha256(entries) != dataset["content_sha256"]:
            folder = self.paths[0].parent
            raise UserError(f"{folder}: the shards hold other images than its dataset.json says. {REMEDY}")


@contextlib.contextmanager
def writer(folder: Path) -> Iterator[Callable[..., int]]:
    """Gives a function that writes one shard and its rows and returns their number; call it in the order of shards.

    It takes a path, records and, as they are by default alone and of weight 1, their groups and weights.
    """
    with pq.ParquetWriter(folder / NAME, SCHEMA, use_dictionary=["split", "shard"], **STORED) as file:

        def write(
            path: Path,
            records: Sequence[Record],
            groups: Sequence[int] | None = None,
            weights: Sequence[float] | None = None,
        ) -> int:
            lengths = np.array(tfrecord.write_shard(path, records), np.int64)
            columns = {
                "key": [record.key for record in records],
                "filename": [record.filename.encode(errors="surrogateescape") for record in records],
                "split": [path.name.partition("-")[0]] * len(records),
                "label": [record.label for record in records],
                "group": [hashing.number(record.key) for record in records] if groups is None else groups,
                "weight": [1.0] * len(records) if weights is None else weights,
                "shard": [path.name] * len(records),
                "offset": offsets_of(lengths),
                "length": lengths,
            }
            file.write_table(pa.table(columns, SCHEMA))
            return len(records)

        yield write


def read(folder: Path, splits: Collection[str] = SPLITS) -> Manifest:
    """Reads where the records of some splits stand, in the order of SPLITS; their content is verified when it is read.

    Raises UserError where shards or their manifest are missing or damaged, or don't belong together.
    """
    path = folder / NAME
    paths = tuple(shard for split in SPLITS if split in splits for shard in tfrecord.find_shards(folder, split))
    if not path.exists():
        raise UserError(f"{path} is missing, for an earlier version wrote the shards. Run: dvc repro tfrecord")
    sizes, names = [shard.stat().st_size for shard in paths], pa.array([shard.name for shard in paths])
    try:
        table = _rows(path, names, sum(sizes) // tfrecord.FRAME_BYTES)
        labels, groups, weights, offsets, lengths = (
            table[name].to_numpy() for name in ("label", "group", "weight", "offset", "length")
        )
        shards = pc.index_in(table["shard"], names).to_numpy()
        counts = np.bincount(shards, minlength=len(paths))
        _check(shards, counts, offsets, lengths, sizes)
    except (OSError, ValueError, MemoryError, pa.ArrowException) as error:
        raise UserError(f"{path} can't be used: {' '.join(str(error).split())}. {REMEDY}") from error
    keys = table["key"].to_numpy().astype(KEY)
    return Manifest(paths, tuple(counts.tolist()), keys, table["filename"], labels, groups, weights, offsets, lengths)


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """Returns where the examples of a shard stand, in bytes, given the lengths of all."""
    found: np.ndarray = np.cumsum(lengths + tfrecord.FRAME_BYTES) - lengths - tfrecord.FOOTER_BYTES
    return found


def _rows(path: Path, shards: pa.Array, most: int) -> pa.Table:
    """Returns the rows of some shards; ValueError for another schema, or more rows than these can hold."""
    found: list[pa.RecordBatch] = []
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        if not file.schema_arrow.equals(SCHEMA):
            raise ValueError(f"its columns must be {', '.join(SCHEMA.names)}. Received: {file.schema_arrow.names}")
        for batch in file.iter_batches(ROWS_PER_BATCH):
            found.append(batch.filter(pc.is_in(batch["shard"], shards)))
            if sum(map(len, found)) > most:
                raise ValueError(f"the shards can't hold more than {most} records. Received: {sum(map(len, found))}")
    table = pa.Table.from_batches(found, SCHEMA)
    hexadecimal = pc.match_substring_regex(table["key"], "^[0-9a-f]{64}$")
    if not pc.all(hexadecimal, min_count=0).as_py():
        raise ValueError(f"`key` must be a sha256 in hex. Received: {table['key'].filter(pc.invert(hexadecimal))[0]}")
    usable = pc.and_(pc.greater(table["weight"], 0), pc.is_finite(table["weight"]))
    if not pc.all(usable, min_count=0).as_py():
        raise ValueError(f"`weight` must be finite and > 0. Received: {table['weight'].filter(pc.invert(usable))[0]}")
    return table


def _check(
    shards: np.ndarray, counts: np.ndarray, offsets: np.ndarray, lengths: np.ndarray, sizes: Sequence[int]
) -> None:
    """Raises ValueError where the rows do not fill their shards, from the first byte to the last."""
    if (np.diff(shards) < 0).any():
        raise ValueError("its rows must be in the order of the shards")
    if len(lengths) and not 0 <= lengths.min() <= lengths.max() <= max(sizes):
        raise ValueError(f"`length` must be of 0 to {max(sizes)}. Received: {lengths.min()} to {lengths.max()}")
    last = np.cumsum(counts)
    for size, start, stop in zip(sizes, last - counts, last, strict=True):
        expected = offsets_of(lengths[start:stop])
        wrong = np.flatnonzero(offsets[start:stop] != expected)
        if len(wrong):
            row = wrong[0]
            raise ValueError(f"`offset` must be {expected[row]} in row {start + row}. Received: {offsets[start + row]}")
        end = int((lengths[start:stop] + tfrecord.FRAME_BYTES).sum())
        if end != size:
            raise ValueError(f"the records of a shard must end where it does, at {size} bytes. Received: {end}")

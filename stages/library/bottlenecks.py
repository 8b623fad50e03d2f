"""The parquet feature cache: one file per TFRecord shard, rows in the shard's order.

Columns: `key` (string), `label` (int32), `bottleneck` (fixed-size list of float16), `logits` (fixed-size list of
float16, before softmax). The schema's metadata says what made them. Checksums of every column, of the schema and of
its metadata stand in the footer, for parquet has none of its own: a flipped bit is found, wherever it lies.
"""

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.library import disk_arrays
from stages.library.console import UserError

METADATA_KEY, CHECKSUMS_KEY = "decant", "decant_crc32c"
DTYPE = "float16"
ROWS_PER_BATCH = 4096  # in memory while shards are read
# What features of each kind are made of.
COLUMNS = {
    "bottleneck": ("bottleneck",),
    "logits": ("logits",),
    "probabilities": ("logits",),
    "joined": ("bottleneck", "logits"),
}


@dataclass(frozen=True)
class Source:
    """What made a shard's features: it stands in the schema's metadata and travels with every head.

    Attributes:
      backbone: name of the backbone.
      input_size_px, central_crop, resize: how a picture became its input (see `preprocessing.Preprocessing`).
      flip: whether the features are means over the picture and its mirror image.
      weights_sha256: hex, of the backbone's weight file.
      fingerprint: sha256 hex over all that the features depend on beside the pictures.
      classes: class names, in the order of the labels.
    """

    backbone: str
    input_size_px: int
    central_crop: float
    resize: str
    flip: bool
    weights_sha256: str
    fingerprint: str
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Features:
    """Features of some splits.

    Attributes:
      keys: sha256 hex of each picture, object (n,).
      labels: int64 (n,).
      values: (n, dim), float16 as cached ("bottleneck", "logits", "joined") or float32 ("probabilities"); on disk where
        they are many (library/disk_arrays.py).
      source: what made them.
    """

    keys: np.ndarray
    labels: np.ndarray
    values: np.ndarray
    source: Source


class ShardWriter:
    """Writes one parquet file, a row group per block, in memory independent of the number of rows.

    Args:
      path: the file to write; it is whole only after `close`.
      source: what made the features.
      feature_width, num_logits: numbers of columns, so that a shard without rows has its schema too.
    """

    def __init__(self, path: Path, source: Source, feature_width: int, num_logits: int):
        self._schema = pa.schema(
            [
                ("key", pa.string()),
                ("label", pa.int32()),
                ("bottleneck", pa.list_(pa.float16(), feature_width)),
                ("logits", pa.list_(pa.float16(), num_logits)),
            ],
            metadata={METADATA_KEY: json.dumps(asdict(source), ensure_ascii=False)},
        )
        self._sums = _Checksums(self._schema)
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd", use_dictionary=False)

    def write(self, keys: list[str], labels: np.ndarray, bottleneck: np.ndarray, logits: np.ndarray) -> None:
        """Appends n rows: hex sha256, integer labels (n,), features (n, feature_width), logits (n, num_logits)."""
        columns = [
            pa.array(keys, pa.string()),
            pa.array(labels, pa.int32()),
            fixed_size_lists(quantize(bottleneck)),
            fixed_size_lists(quantize(logits)),
        ]
        table = pa.Table.from_arrays(columns, schema=self._schema)
        for batch in table.to_batches():
            self._sums.add(batch)
        self._writer.write_table(table)

    def close(self) -> None:
        """Ends the file."""
        self._writer.add_key_value_metadata({CHECKSUMS_KEY: json.dumps(self._sums.values())})
        self._writer.close()


class _Checksums:
    """CRC-32C of a shard's columns, whatever the blocks that they come in, and of its schema."""

    def __init__(self, schema: pa.Schema):
        fields = [(field.name, getattr(field.type, "list_size", str(field.type))) for field in schema]
        about = (schema.metadata or {})[METADATA_KEY.encode()]
        self._sums = {"schema": google_crc32c.Checksum(f"{fields}".encode() + about)}

    def add(self, batch: pa.RecordBatch) -> None:
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if name == "key":
                content = "".join(f"{key}\n" for key in column.to_pylist()).encode()
            elif name == "label":
                content = column.to_numpy().astype(np.int32).tobytes()
            else:
                content = matrix(pa.chunked_array([column])).tobytes()
            self._sums.setdefault(name, google_crc32c.Checksum()).update(content)

    def values(self) -> dict[str, str]:
        """Returns the checksum, hex, of each column that came, and of the schema."""
        return {name: str(checksum.hexdigest().decode()) for name, checksum in self._sums.items()}


def quantize(values: np.ndarray) -> np.ndarray:
    """Rounds to float16 as the cache does; values beyond its range saturate in place of becoming infinite."""
    limit = float(np.finfo(np.float16).max)
    rounded: np.ndarray = np.clip(values, -limit, limit).astype(np.float16)
    return rounded


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns float32 probabilities (n, classes) of logits (n, classes)."""
    shifted = logits.astype(np.float32) - logits.max(axis=1, keepdims=True).astype(np.float32)
    probabilities: np.ndarray = np.exp(shifted)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return probabilities


def load(folder: Path, splits: Iterable[str], kind: str) -> Features:
    """Reads the features of some splits.

    Args:
      folder: the out of bottleneck-extract for one backbone.
      splits: "train", "validation" and "test", in the order of the result's rows.
      kind: "bottleneck", "logits", "joined" (both side by side) or "probabilities" (softmax of the logits).

    Raises:
      UserError: a file is missing or damaged.
    """
    paths = [path for split in splits for path in _shards(folder, split)]
    footers = [_footer(path) for path in paths]
    if len({(footer.source, *footer.widths.items()) for footer in footers}) != 1:
        raise UserError(f"{folder}: shards of different backbones or classes. Run: dvc repro -f bottleneck-extract")
    dim = sum(footers[0].widths[column] for column in COLUMNS[kind])
    rows = sum(footer.rows for footer in footers)
    values = disk_arrays.empty((rows, dim), np.float32 if kind == "probabilities" else DTYPE)
    keys, labels, start = [np.empty(0, object)], [np.empty(0, np.int64)], 0
    for path, footer in zip(paths, footers, strict=True):
        with _readable(path):
            for batch in _verified(path, footer, COLUMNS[kind]):
                keys.append(batch["key"].to_numpy(zero_copy_only=False))
                labels.append(batch["label"].to_numpy().astype(np.int64))
                block = np.hstack([matrix(pa.chunked_array([batch[column]])) for column in COLUMNS[kind]])
                values[start : start + len(block)] = softmax(block) if kind == "probabilities" else block
                start += len(block)
    return Features(np.concatenate(keys), np.concatenate(labels), values, footers[0].source)


def _shards(folder: Path, split: str) -> list[Path]:
    paths = sorted(folder.glob(f"{split}-*-of-*.parquet"))
    if [path.stem for path in paths] != [
        f"{split}-{index:05d}-of-{len(paths):05d}" for index in range(len(paths) or 1)
    ]:
        raise UserError(f"{folder}: shards of {split!r} are missing. Run: dvc repro bottleneck-extract")
    return paths


@dataclass(frozen=True)
class _Footer:
    """What a shard's end says: source, numbers of rows and of columns of each feature, checksums."""

    source: Source
    rows: int
    widths: dict[str, int]
    checksums: dict[str, str]


def _footer(path: Path) -> _Footer:
    with _readable(path):
        metadata = pq.read_metadata(path)
        schema = metadata.schema.to_arrow_schema()
        checksums = json.loads((metadata.metadata or {})[CHECKSUMS_KEY.encode()])
        groups = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
        if _Checksums(schema).values().items() - checksums.items() or metadata.num_rows != sum(groups):
            raise ValueError("its schema is damaged")
        widths = {column: schema.field(column).type.list_size for column in ("bottleneck", "logits")}
        return _Footer(_source(schema), metadata.num_rows, widths, checksums)


def _verified(path: Path, footer: _Footer, columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    """Yields the rows of a shard in order, some of them at a time; at their end, ValueError if any was damaged."""
    rows = 0
    with pq.ParquetFile(path) as file:
        sums = _Checksums(file.schema_arrow)
        for batch in file.iter_batches(ROWS_PER_BATCH, columns=["key", "label", *columns]):
            sums.add(batch)
            rows += len(batch)
            yield batch
    if rows != footer.rows or sums.values().items() - footer.checksums.items():
        raise ValueError("its rows are damaged")


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, KeyError, ValueError, AttributeError, TypeError, pa.ArrowException) as error:
        raise UserError(
            f"{path} can't be read ({' '.join(str(error).split())}). Run: dvc repro -f bottleneck-extract"
        ) from error


def _source(schema: pa.Schema) -> Source:
    content = json.loads((schema.metadata or {})[METADATA_KEY.encode()])
    return Source(**content | {"classes": tuple(content["classes"])})


def fixed_size_lists(values: np.ndarray) -> pa.Array:
    """Returns an Arrow column of the rows of a float16 matrix (n, width)."""
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1), pa.float16()), values.shape[1])


def matrix(column: pa.ChunkedArray) -> np.ndarray:
    """Returns the float16 matrix (n, width) of an Arrow column of fixed-size lists."""
    width = column.type.list_size
    chunks = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    return np.concatenate(chunks or [np.empty(0, np.float16)]).reshape(-1, width)

"""The parquet feature cache: one file per TFRecord shard, rows in the shard's order.

Columns: `key` (string), `label` (int32), `bottleneck` (fixed-size list of float16), `logits` (fixed-size list of
float16, before softmax). The schema's metadata says what made them.
"""

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pydantic

from stages.library.common.console import UserError
from stages.library.common.guarded_files import CONFIG, PLUGIN_NAME, FileError, parse_json
from stages.library.features import disk_arrays
from stages.library.records.dataset_file import each_once
from stages.library.records.preprocessing import InputSize, Kept, ResizeMethod
from stages.library.scoring.probabilities import softmax

METADATA_KEY = "decant"
DTYPE = "float16"
SIGN, INFINITY = np.uint16(0x8000), np.uint16(0x7C00)  # its bits
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
      input_size_px, central_crop, resize: how an image became its input (see `preprocessing.Preprocessing`).
      flip: whether the features are means over the image and its mirror image.
      weights_sha256: hex, of the backbone's weight file.
      fingerprint: sha256 hex over all that the features depend on beside the images.
      classes: class names, in the order of the labels.
    """

    __pydantic_config__: ClassVar = CONFIG

    backbone: Annotated[str, pydantic.Field(pattern=PLUGIN_NAME)]
    input_size_px: InputSize
    central_crop: Kept
    resize: ResizeMethod
    flip: bool
    weights_sha256: str
    fingerprint: str
    classes: Annotated[tuple[str, ...], pydantic.Field(min_length=1), pydantic.AfterValidator(each_once)]


@dataclass(frozen=True)
class Features:
    """Features of some splits.

    Attributes:
      keys: sha256 hex of each image, object (n,).
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
        about = {METADATA_KEY: json.dumps(asdict(source), ensure_ascii=False)}
        self._schema = _schema(feature_width, num_logits).with_metadata(about)
        options = {
            "compression": "zstd",
            "use_dictionary": False,
            "write_statistics": False,
            "write_page_checksum": True,
        }
        self._writer = pq.ParquetWriter(path, self._schema, **options)

    def write(self, keys: list[str], labels: np.ndarray, bottleneck: np.ndarray, logits: np.ndarray) -> None:
        """Appends n rows: hex sha256, integer labels (n,), features (n, feature_width), logits (n, num_logits)."""
        columns = [
            pa.array(keys, pa.string()),
            pa.array(labels, pa.int32()),
            fixed_size_lists(quantize(bottleneck)),
            fixed_size_lists(quantize(logits)),
        ]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema))

    def close(self) -> None:
        """Ends the file."""
        self._writer.close()


def _schema(feature_width: int, num_logits: int) -> pa.Schema:
    columns = (
        ("key", pa.string()),
        ("label", pa.int32()),
        ("bottleneck", _list_type(feature_width)),
        ("logits", _list_type(num_logits)),
    )
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns])


def _list_type(width: int) -> pa.DataType:
    """Returns the type of a row: numbers that can't be missing, for parquet states of every one whether it is there."""
    return pa.list_(pa.field("element", pa.float16(), nullable=False), width)


def quantize(values: np.ndarray) -> np.ndarray:
    """Rounds to float16 as the cache does; values beyond its range saturate in place of becoming infinite."""
    # A network in mixed precision overflows by itself. NumPy looks at integers many times as fast as at float16.
    if values.dtype == DTYPE and not (values.view(np.uint16) & ~SIGN == INFINITY).any():
        return values
    limit = float(np.finfo(np.float16).max)
    rounded: np.ndarray = np.clip(values, -limit, limit).astype(np.float16)
    return rounded


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
    schemas, counts = zip(*(_footer(path) for path in paths), strict=True)
    if len({_source(schema) for schema in schemas}) != 1:
        raise UserError(f"{folder}: shards of different backbones or classes. Run: dvc repro -f bottleneck-extract")
    dim = sum(schemas[0].field(column).type.list_size for column in COLUMNS[kind])
    values = disk_arrays.empty((sum(counts), dim), np.float32 if kind == "probabilities" else DTYPE)
    keys, labels, start = [], [], 0
    for path in paths:
        for batch in _batches(path, COLUMNS[kind]):
            keys.append(batch["key"].to_numpy(zero_copy_only=False))
            labels.append(batch["label"].to_numpy().astype(np.int64))
            block = np.hstack([matrix(pa.chunked_array([batch[column]])) for column in COLUMNS[kind]])
            values[start : start + len(block)] = softmax(block) if kind == "probabilities" else block
            start += len(block)
    no_keys, no_labels = np.empty(0, object), np.empty(0, np.int64)
    return Features(np.concatenate([no_keys, *keys]), np.concatenate([no_labels, *labels]), values, _source(schemas[0]))


def _shards(folder: Path, split: str) -> list[Path]:
    paths = sorted(folder.glob(f"{split}-*-of-*.parquet"))
    count = len(paths) or 1
    if [path.stem for path in paths] != [f"{split}-{index:05d}-of-{count:05d}" for index in range(count)]:
        raise UserError(f"{folder}: shards of {split!r} are missing. Run: dvc repro bottleneck-extract")
    return paths


def _footer(path: Path) -> tuple[pa.Schema, int]:
    """Returns the schema of a shard and its number of rows."""
    with _readable(path):
        metadata = pq.read_metadata(path)
        schema = metadata.schema.to_arrow_schema()
        _source(schema)
        if not schema.equals(_schema(*(schema.field(column).type.list_size for column in ("bottleneck", "logits")))):
            raise ValueError("its columns are not key, label, bottleneck and logits")
        if metadata.num_rows != sum(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)):
            raise ValueError("its footer contradicts itself")
        _check_size(metadata, schema)
        return schema, metadata.num_rows


def _check_size(metadata: pq.FileMetaData, schema: pa.Schema) -> None:
    """Raises ValueError where the rows are too short for their numbers, for which memory would be taken in vain.

    A group of rows states its size. Its columns state theirs, too, but a damaged one ends the process that asks:
    pyarrow's `RowGroupMetaData.column` does not catch what the C++ library throws.
    """
    size_bytes = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    width = sum(schema.field(name).type.list_size for name in ("bottleneck", "logits"))
    if size_bytes < metadata.num_rows * width * np.dtype(DTYPE).itemsize:
        raise ValueError("its rows are shorter than their numbers")


def _batches(path: Path, columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    """Yields the rows of a shard in order, some of them at a time; as many as its footer says."""
    with _readable(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        left = file.metadata.num_rows
        for batch in file.iter_batches(ROWS_PER_BATCH, columns=["key", "label", *columns]):
            if (left := left - len(batch)) < 0:
                break
            yield batch
        if left:
            raise ValueError(f"it does not hold the {file.metadata.num_rows} rows that its footer counts")


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (
        OSError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        MemoryError,
        pa.ArrowException,
        FileError,
    ) as error:
        raise UserError(
            f"{path} can't be read ({' '.join(str(error).split())}). Run: dvc repro -f bottleneck-extract"
        ) from error


def _source(schema: pa.Schema) -> Source:
    content = (schema.metadata or {})[METADATA_KEY.encode()].decode()
    found: Source = parse_json(content, Source, "its metadata", remedy="")
    return found


def fixed_size_lists(values: np.ndarray) -> pa.Array:
    """Returns an Arrow column of the rows of a float16 matrix (n, width)."""
    content = pa.array(values.reshape(-1), pa.float16())
    return pa.FixedSizeListArray.from_arrays(content, type=_list_type(values.shape[1]))


def matrix(column: pa.ChunkedArray) -> np.ndarray:
    """Returns the float16 matrix (n, width) of an Arrow column of fixed-size lists."""
    width = column.type.list_size
    chunks = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    return np.concatenate(chunks or [np.empty(0, np.float16)]).reshape(-1, width)

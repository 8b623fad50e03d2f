"""The parquet feature cache: one file per TFRecord shard, rows in the shard's order.

Columns: `key` (string), `label` (int32), `group` (uint64) and `weight` (float64) as in the manifest, `bottleneck`
(fixed-size list of float16) and, unless the backbone's weights have no top, `logits` (fixed-size list of float16,
before softmax). The schema's metadata says what made them.
"""

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.library.common import hashing
from stages.library.common.console import UserError
from stages.library.common.guarded_files import FileError, parse_json
from stages.library.features import disk_arrays
from stages.library.features.source import Joined, Source
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
DAMAGE = OSError, KeyError, ValueError, TypeError, AttributeError, MemoryError, pa.ArrowException, FileError


@dataclass(frozen=True)
class Features:
    """Features of some splits, on disk where they are many (see `disk_arrays`)."""

    keys: np.ndarray  # sha256 hex of each image, object (n,)
    labels: np.ndarray  # int64 (n,)
    groups: np.ndarray  # uint64 (n,); rows of one number stay on one side of every split
    weights: np.ndarray  # float64 (n,), > 0, of their losses
    splits: np.ndarray  # "train", "validation" or "test", object (n,)
    values: np.ndarray  # (n, dim), float16 as cached, or float32 ("probabilities")
    source: Source | Joined  # what made them


class ShardWriter:
    """Writes one parquet file, whole after `close`, a row group per block, in memory independent of their number."""

    def __init__(self, path: Path, source: Source, feature_width: int, num_logits: int):
        about = {METADATA_KEY: json.dumps(asdict(source), ensure_ascii=False)}
        self._schema = _schema(feature_width, num_logits).with_metadata(about)
        options = {"use_dictionary": False, "write_statistics": False, "write_page_checksum": True}
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd", **options)

    def write(
        self,
        keys: list[str],
        labels: np.ndarray,
        bottleneck: np.ndarray,
        logits: np.ndarray,
        groups: Sequence[int] | np.ndarray | None = None,
        weights: Sequence[float] | np.ndarray | None = None,
    ) -> None:
        """Appends n rows: hex sha256, integer labels (n,), features (n, feature_width), logits (n, num_logits).

        Without groups and weights, (n,), each row is alone and of weight 1.
        """
        groups = list(map(hashing.number, keys)) if groups is None else groups
        weights = np.ones(len(keys)) if weights is None else weights
        columns = [pa.array(keys, pa.string()), pa.array(labels, pa.int32())]
        columns += [pa.array(groups, pa.uint64()), pa.array(weights, pa.float64())]
        for values in (bottleneck, logits) if logits.shape[1] else (bottleneck,):
            content = pa.array(quantize(values).reshape(-1), pa.float16())
            columns.append(pa.FixedSizeListArray.from_arrays(content, type=_list_type(values.shape[1])))
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema))

    def close(self) -> None:
        """Ends the file."""
        self._writer.close()


def _schema(feature_width: int, num_logits: int = 0) -> pa.Schema:
    kinds = {"key": pa.string(), "label": pa.int32(), "group": pa.uint64(), "weight": pa.float64()}
    kinds |= {"bottleneck": _list_type(feature_width)} | ({"logits": _list_type(num_logits)} if num_logits else {})
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in kinds.items()])


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
      folder: the out of bottleneck-extract for one backbone; for several see `joined.load`.
      splits: "train", "validation" and "test", in the order of the result's rows.
      kind: "bottleneck", "logits", "joined" (both side by side) or "probabilities" (softmax of the logits).

    Raises:
      UserError: a file is missing or damaged, lacks the kind, or has features that are not finite.
    """
    paths = [path for split in splits for path in _shards(folder, split)]
    schemas, counts = zip(*map(_footer, paths), strict=True)
    if len({_source(schema) for schema in schemas}) != 1:
        raise UserError(f"{folder}: shards of different backbones or classes. Run: dvc repro -f bottleneck-extract")
    if not set(COLUMNS[kind]) <= set(schemas[0].names):
        backbone = _source(schemas[0]).backbone
        raise UserError(
            f"`features` must be bottleneck where there are no logits: the weight file of {backbone} has no top. "
            f"Received: {kind!r}. Or set `extract.weights.{backbone}` to a file with its top"
        )
    dim = sum(schemas[0].field(column).type.list_size for column in COLUMNS[kind])
    values = disk_arrays.empty((sum(counts), dim), np.float32 if kind == "probabilities" else DTYPE)
    found: dict[str, list[np.ndarray]] = {
        "key": [np.empty(0, object)],
        "label": [np.empty(0, np.int64)],
        "group": [np.empty(0, np.uint64)],
        "weight": [np.empty(0)],
    }
    start = 0
    for path in paths:
        for batch in _batches(path, COLUMNS[kind]):
            for name, parts in found.items():
                parts.append(batch[name].to_numpy(zero_copy_only=False).astype(parts[0].dtype))
            block = np.hstack([_matrix(batch[column]) for column in COLUMNS[kind]])
            if len(wrong := np.flatnonzero((block.view(np.uint16) & INFINITY == INFINITY).any(axis=1))):
                raise UserError(
                    f"{path}: the features of {len(wrong)} images or more are NaN or infinite, first those of "
                    f"{batch['key'][wrong[0]]}. Choose other `extract.weights` or `extract.precision`; if the file was "
                    "changed, run: dvc repro -f bottleneck-extract"
                )
            values[start : start + len(block)] = softmax(block) if kind == "probabilities" else block
            start += len(block)
    of_split = np.repeat(np.array([path.name.partition("-")[0] for path in paths], object), counts)
    keys, labels, groups, weights = map(np.concatenate, found.values())
    return Features(keys, labels, groups, weights, of_split, values, _source(schemas[0]))


def _shards(folder: Path, split: str) -> list[Path]:
    paths = sorted(folder.glob(f"{split}-*-of-*.parquet"))
    count = len(paths) or 1
    if [path.stem for path in paths] != [f"{split}-{index:05d}-of-{count:05d}" for index in range(count)]:
        raise UserError(f"{folder}: shards of {split!r} are missing. Run: dvc repro bottleneck-extract")
    return paths


def _footer(path: Path) -> tuple[pa.Schema, int]:
    """Returns the schema of a shard and its number of rows, for which memory may be taken.

    A group of rows states its size. Its columns state theirs, too, but a damaged one ends the process that asks:
    pyarrow's `RowGroupMetaData.column` does not catch what the C++ library throws.
    """
    with _readable(path):
        metadata = pq.read_metadata(path)
        schema = metadata.schema.to_arrow_schema()
        _source(schema)
        columns = [column for column in COLUMNS["joined"] if column != "logits" or column in schema.names]
        widths = [schema.field(column).type.list_size for column in columns]
        if not schema.equals(_schema(*widths)):
            raise ValueError("its columns are not key, label, group, weight, bottleneck and maybe logits")
        groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
        if metadata.num_rows != sum(group.num_rows for group in groups):
            raise ValueError("its footer contradicts itself")
        size_bytes = sum(group.total_byte_size for group in groups)
        if size_bytes < metadata.num_rows * sum(widths) * np.dtype(DTYPE).itemsize:
            raise ValueError("its rows are shorter than their numbers")
        return schema, metadata.num_rows


def _batches(path: Path, columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    """Yields the rows of a shard in order, some of them at a time; as many as its footer says."""
    with _readable(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        left = file.metadata.num_rows
        for batch in file.iter_batches(ROWS_PER_BATCH, columns=["key", "label", "group", "weight", *columns]):
            if (left := left - len(batch)) < 0:
                break
            weights = batch["weight"].to_numpy(zero_copy_only=False)
            if not (np.isfinite(weights) & (weights > 0)).all():
                raise ValueError("`weight` must be finite and > 0")
            yield batch
        if left:
            raise ValueError(f"it does not hold the {file.metadata.num_rows} rows that its footer counts")


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except DAMAGE as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} can't be read ({reason}). Run: dvc repro -f bottleneck-extract") from error


def _source(schema: pa.Schema) -> Source:
    content = (schema.metadata or {})[METADATA_KEY.encode()].decode()
    found: Source = parse_json(content, Source, "its metadata", remedy="")
    return found


def _matrix(column: pa.Array) -> np.ndarray:
    """Returns the float16 matrix (n, width) of a column of fixed-size lists."""
    matrix: np.ndarray = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, column.type.list_size)
    return matrix

"""The parquet feature cache: one file per TFRecord shard, rows in the shard's order.

Columns: `key` (string), `label` (int32), `bottleneck` (fixed-size list of float16), `logits` (fixed-size list of
float16, before softmax). The schema's metadata names the backbone, its fingerprint and the sorted classes.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.library.console import UserError


@dataclass(frozen=True)
class Features:
    """Features of some splits.

    Attributes:
      keys: sha256 hex of each picture, object (n,).
      labels: int64 (n,).
      values: (n, dim), float16 as cached ("bottleneck", "logits") or float32 ("probabilities").
      classes: class names, in the order of the labels.
    """

    keys: np.ndarray
    labels: np.ndarray
    values: np.ndarray
    classes: tuple[str, ...]


class ShardWriter:
    """Writes one parquet file, a row group per block, in memory independent of the number of rows.

    Args:
      path: the file to write; it is whole only after `close`.
      metadata: "backbone", "fingerprint" and "classes" (see `metadata`).
      feature_width, num_logits: numbers of columns, so that a shard without rows has its schema too.
    """

    def __init__(self, path: Path, metadata: dict[str, str], feature_width: int, num_logits: int):
        self._schema = pa.schema(
            [
                ("key", pa.string()),
                ("label", pa.int32()),
                ("bottleneck", pa.list_(pa.float16(), feature_width)),
                ("logits", pa.list_(pa.float16(), num_logits)),
            ],
            metadata=metadata,
        )
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd", use_dictionary=False)

    def write(self, keys: list[str], labels: np.ndarray, bottleneck: np.ndarray, logits: np.ndarray) -> None:
        """Appends n rows: hex sha256, integer labels (n,), features (n, feature_width), logits (n, num_logits)."""
        columns = [
            pa.array(keys, pa.string()),
            pa.array(labels, pa.int32()),
            _fixed_size_lists(quantize(bottleneck)),
            _fixed_size_lists(quantize(logits)),
        ]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema))

    def close(self) -> None:
        """Ends the file."""
        self._writer.close()


def metadata(backbone: str, fingerprint: str, classes: tuple[str, ...]) -> dict[str, str]:
    """Returns the metadata of a shard's schema."""
    return {"backbone": backbone, "fingerprint": fingerprint, "classes": json.dumps(classes, ensure_ascii=False)}


def quantize(values: np.ndarray) -> np.ndarray:
    """Rounds to float16 as the cache does; values beyond its range saturate in place of becoming infinite."""
    limit = float(np.finfo(np.float16).max)
    return np.clip(values, -limit, limit).astype(np.float16)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns float32 probabilities (n, classes) of logits (n, classes)."""
    shifted = logits.astype(np.float32) - logits.max(axis=1, keepdims=True).astype(np.float32)
    exponentials = np.exp(shifted)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def load(folder: Path, splits: Iterable[str], kind: str) -> Features:
    """Reads the features of some splits.

    Args:
      folder: the out of bottleneck-extract for one backbone.
      splits: "train", "validation" and "test", in the order of the result's rows.
      kind: "bottleneck", "logits" or "probabilities" (softmax of the logits).

    Raises:
      UserError: a file is missing or damaged.
    """
    column = "logits" if kind == "probabilities" else kind
    keys, labels, blocks, classes = [], [], [], ()
    for split in splits:
        paths = sorted(folder.glob(f"{split}-*-of-*.parquet"))
        if not paths or len(paths) != int(paths[0].stem.rsplit("-", 1)[1]):
            raise UserError(f"{folder}: shards of {split!r} are missing. Run: dvc repro bottleneck-extract")
        for path in paths:
            try:
                table = pq.read_table(path, columns=["key", "label", column])
            except (OSError, pa.ArrowException) as error:
                raise UserError(f"{path} can't be read ({error}). Run: dvc repro -f bottleneck-extract") from error
            classes = tuple(json.loads(table.schema.metadata[b"classes"]))
            keys.append(table["key"].to_numpy())
            labels.append(table["label"].to_numpy().astype(np.int64))
            blocks.append(_matrix(table[column]))
    values = np.concatenate(blocks)
    if kind == "probabilities":
        values = softmax(values)
    return Features(np.concatenate(keys), np.concatenate(labels), values, classes)


def _fixed_size_lists(values: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1), pa.float16()), values.shape[1])


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    width = column.type.list_size
    chunks = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    return np.concatenate(chunks or [np.empty(0, np.float16)]).reshape(-1, width)

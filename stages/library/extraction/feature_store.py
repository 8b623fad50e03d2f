"""Features by (fingerprint, sha256 of the image), outside DVC's outs, shared by checkouts and, at a URL, machines.

    ROOT/FINGERPRINT/source.json      what the fingerprint is over (ROOT: see `store_location`)
    ROOT/FINGERPRINT/SHA256.parquet   a part: key, bottleneck and logits of some images, each a number of bytes

A part is named by the hash of its bytes, appears whole or not at all and never changes. So writers need no lock: two
that compute the same image at once write equal rows. A kill loses the images since the last part. A part that does
not hash to its name is removed, and its images are computed again; the whole folder can be removed at any time.
"""

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.library.common import artifacts, console, store_location
from stages.library.common.threads import ahead
from stages.library.records.manifest import KEY

SOURCE = "source.json"
DATASET = b"dataset"
VALUE = np.dtype("<f2")


@dataclass(frozen=True)
class Rows:
    """Features of some images.

    Attributes:
      keys: their sha256 hex, bytes "S64" (n,).
      bottleneck: float16 (n, feature_width).
      logits: float16 (n, num_logits), before softmax.
    """

    keys: np.ndarray
    bottleneck: np.ndarray
    logits: np.ndarray


class FeatureStore:
    """The features that one network with one preprocessing gave.

    Args:
      folder: its folder, made with the first part.
      source: what the features depend on beside the images; shown by `app.store`.
      feature_width, num_logits: of every row; a part of other widths counts as damaged.
    """

    def __init__(self, folder: Path, source: Mapping[str, Any], feature_width: int, num_logits: int):
        self._folder = folder
        self._source = source
        # Bytes, for parquet writes lists with two levels a number, which takes ten times as long.
        sizes = {
            "key": KEY.itemsize,
            "bottleneck": VALUE.itemsize * feature_width,
            "logits": VALUE.itemsize * num_logits,
        }
        self._schema = pa.schema([pa.field(name, pa.binary(size), nullable=False) for name, size in sizes.items()])

    def put(self, rows: Rows, dataset: str) -> None:
        """Adds a part.

        Args:
          rows: at least one.
          dataset: name of the data set that they were computed for.

        Raises:
          OSError: the folder can't be written to, or the disk is full.
          UserError: the remote store can't be used.
        """
        columns = [_column(rows.keys.astype(KEY)), _column(rows.bottleneck), _column(rows.logits)]
        table = pa.Table.from_arrays(columns, schema=self._schema.with_metadata({DATASET: dataset}))
        content = io.BytesIO()
        pq.write_table(table, content, compression="zstd", use_dictionary=False, write_statistics=False)
        encoded = content.getvalue()
        with store_location.reachable(self._folder):
            if not (self._folder / SOURCE).exists():
                store_location.write(self._folder / SOURCE, artifacts.canonical_json(self._source).encode())
            store_location.write(self._folder / f"{artifacts.sha256_bytes(encoded)}.parquet", encoded)

    def parts(self) -> list[Path]:
        """Returns the paths of all parts, sorted.

        Raises:
          UserError: the remote store can't be used.
        """
        with store_location.reachable(self._folder):
            return sorted(self._folder.glob("*.parquet"), key=str)

    def keys(self, parts: Sequence[Path]) -> np.ndarray:
        """Returns the keys in some parts, "S64" (n,); nothing is verified, and what can't be read is passed over."""
        found = [np.empty(0, KEY)]
        for part in parts:
            try:
                with part.open("rb") as file:
                    found.append(_keys(pq.read_table(file, columns=["key"])))
            except (OSError, KeyError, ValueError, pa.ArrowException):
                continue
        return np.concatenate(found)

    def read(self, parts: Sequence[Path]) -> Iterator[Rows]:
        """Yields the rows of each part that is what its name says; damaged ones are removed, vanished ones left out."""
        for part, rows in zip(parts, ahead(self._verified, parts, os.cpu_count() or 1), strict=True):
            if rows is not None:
                yield rows
            elif part.exists():
                console.say(f"{part} is damaged: removed, its images are computed again")
                part.unlink(missing_ok=True)

    def mark_used(self) -> None:
        """Notes that the features, if there are any, are in use: `app.store` shows that, and removes by it."""
        if (self._folder / SOURCE).exists():
            store_location.touch(self._folder / SOURCE)

    def _verified(self, part: Path) -> Rows | None:
        try:
            content = part.read_bytes()
            if artifacts.sha256_bytes(content) != part.stem:
                return None
            table = pq.read_table(pa.BufferReader(content))
            if not table.schema.equals(self._schema):
                return None
            return Rows(_keys(table), _matrix(table["bottleneck"]), _matrix(table["logits"]))
        except (OSError, ValueError, pa.ArrowException):
            return None


def _keys(table: pa.Table) -> np.ndarray:
    """Returns the keys of a part, "S64" (n,); ValueError where they have another size."""
    column = table["key"]
    if column.type != pa.binary(KEY.itemsize):
        raise ValueError(f"keys must be {KEY.itemsize} bytes each. Received: {column.type}")
    return np.frombuffer(_content(column), KEY)


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    return np.frombuffer(_content(column), VALUE).reshape(len(column), -1)


def _column(values: np.ndarray) -> pa.Array:
    """Returns an Arrow column of the bytes of each row of a matrix, or of each text."""
    values = np.ascontiguousarray(values)
    row_bytes = values.nbytes // len(values)
    return pa.Array.from_buffers(pa.binary(row_bytes), len(values), [None, pa.py_buffer(values)])


def _content(column: pa.ChunkedArray) -> bytes:
    """Returns the bytes of all rows of a column of fixed-size bytes, one after the other."""
    size = column.type.byte_width
    rows = ((chunk.buffers()[1], size * chunk.offset, size * len(chunk)) for chunk in column.chunks)
    return b"".join(memoryview(content)[start : start + count] for content, start, count in rows)

"""Features by (fingerprint, sha256 of the image), outside DVC's outs, shared by checkouts and, at a URL, machines.

    ROOT/FINGERPRINT/source.json      what the fingerprint is over (ROOT: see `store_location`)
    ROOT/FINGERPRINT/SHA256.parquet   a part: key, bottleneck and maybe logits of some images, each a number of bytes

A part is named by the hash of its bytes, appears whole or not at all and never changes. So writers need no lock: two
that compute the same image at once write equal rows. A kill loses the images of two parts at most. A part that does not
hash to its name is removed, and its images are computed again; the whole folder can be removed at any time.
"""

import io
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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
ROWS_PER_PART = 1024
SECONDS_PER_PART = 5.0


@dataclass(frozen=True)
class Rows:
    """Features of some images."""

    keys: np.ndarray  # their sha256 hex, bytes "S64" (n,)
    bottleneck: np.ndarray  # float16 (n, feature_width)
    logits: np.ndarray  # float16 (n, num_logits), before softmax; of no width without a top


class FeatureStore:
    """The features that one network with one preprocessing gave; its methods raise UserError for a remote store.

    Its folder is made with the first part; `source` is what the features depend on beside the images. A part of other
    widths than `feature_width` and `num_logits` counts as damaged.
    """

    def __init__(self, folder: Path, source: Mapping[str, Any], feature_width: int, num_logits: int):
        self._folder = folder
        self._source = source
        # Bytes, for parquet writes lists with two levels a number, which takes ten times as long.
        sizes = KEY.itemsize, VALUE.itemsize * feature_width, VALUE.itemsize * num_logits
        columns = zip(("key", "bottleneck", "logits"), sizes, strict=True)
        self._schema = pa.schema([pa.field(name, pa.binary(size), nullable=False) for name, size in columns if size])

    def put(self, rows: Rows, dataset: str) -> None:
        """Adds a part of at least one row; `dataset` is the name of the data set that it was computed for."""
        matrices = rows.keys.astype(KEY), rows.bottleneck, rows.logits
        columns = [
            pa.FixedSizeBinaryArray.from_buffers(field.type, len(matrix), [None, pa.py_buffer(matrix.tobytes())])
            for matrix, field in zip(matrices, self._schema, strict=False)  # there may be no logits
        ]
        table = pa.Table.from_arrays(columns, schema=self._schema.with_metadata({DATASET: dataset}))
        content = io.BytesIO()
        pq.write_table(table, content, compression="zstd", use_dictionary=False, write_statistics=False)
        encoded = content.getvalue()
        with store_location.reachable(self._folder):
            if not (self._folder / SOURCE).exists():
                store_location.write(self._folder / SOURCE, artifacts.canonical_json(self._source).encode())
            store_location.write(self._folder / f"{artifacts.sha256_bytes(encoded)}.parquet", encoded)

    def add(self, batches: Iterable[Rows], dataset: str) -> Iterator[int]:
        """Puts batches into the store, part by part, and yields the number of images of each batch that came.

        A part has ROWS_PER_PART images or, of a slow network, those of SECONDS_PER_PART. It is written while the next
        batches come, for a GPU would wait meanwhile; so a kill loses two parts at most.
        """
        waiting: list[Rows] = []
        started, written = time.monotonic(), Future[None]()
        written.set_result(None)
        with ThreadPoolExecutor(1) as writer:
            for rows in batches:
                waiting.append(rows)
                full = sum(len(each.keys) for each in waiting) >= ROWS_PER_PART
                if full or time.monotonic() - started >= SECONDS_PER_PART:
                    written.result()  # which raises what went wrong
                    written = writer.submit(self.put, _joined(waiting), dataset)
                    waiting, started = [], time.monotonic()
                yield len(rows.keys)
            written.result()
            if waiting:
                self.put(_joined(waiting), dataset)

    def parts(self) -> list[Path]:
        """Returns the paths of all parts, sorted."""
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
            values = [_matrix(table[name]) for name in table.column_names[1:]]
            return Rows(_keys(table), *values) if values[1:] else Rows(_keys(table), values[0], values[0][:, :0])
        except (OSError, ValueError, pa.ArrowException):
            return None


def _joined(rows: list[Rows]) -> Rows:
    columns = zip(*((each.keys, each.bottleneck, each.logits) for each in rows), strict=True)
    return Rows(*map(np.concatenate, columns))


def _keys(table: pa.Table) -> np.ndarray:
    """Returns the keys of a part, "S64" (n,); ValueError where they have another size."""
    column = table["key"]
    if column.type != pa.binary(KEY.itemsize):
        raise ValueError(f"keys must be {KEY.itemsize} bytes each. Received: {column.type}")
    return np.frombuffer(b"".join(column.to_pylist()), KEY)


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    return np.frombuffer(b"".join(column.to_pylist()), VALUE).reshape(len(column), -1)

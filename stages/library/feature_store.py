"""Features by (fingerprint, sha256 of the picture), outside DVC's outs, shared by checkouts and, at a URL, machines.

    ROOT/FINGERPRINT/source.json      what the fingerprint is over (ROOT: see `store_location`)
    ROOT/FINGERPRINT/SHA256.parquet   a part: key, bottleneck and logits of some pictures

A part is named by the hash of its bytes, appears whole or not at all and never changes. So writers need no lock: two
that compute the same picture at once write equal rows. A kill loses the pictures since the last part. A part that does
not hash to its name is removed, and its pictures are computed again; the whole folder can be removed at any time.
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

from stages.library import artifacts, bottlenecks, store_location
from stages.library.threads import ahead

SOURCE = "source.json"
DATASET = b"dataset"


@dataclass(frozen=True)
class Rows:
    """Features of some pictures.

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
      source: what the features depend on beside the pictures; shown by `app.store`.
      feature_width, num_logits: of every row; a part of other widths counts as damaged.
    """

    def __init__(self, folder: Path, source: Mapping[str, Any], feature_width: int, num_logits: int):
        self._folder = folder
        self._source = source
        self._schema = pa.schema(
            [
                ("key", pa.string()),
                ("bottleneck", pa.list_(pa.float16(), feature_width)),
                ("logits", pa.list_(pa.float16(), num_logits)),
            ]
        )

    def put(self, rows: Rows, dataset: str) -> None:
        """Adds a part.

        Args:
          rows: at least one.
          dataset: name of the data set that they were computed for.

        Raises:
          OSError: the folder can't be written to, or the disk is full.
          UserError: the remote store can't be used.
        """
        columns = [
            pa.array(rows.keys.astype(str).tolist(), pa.string()),
            bottlenecks.fixed_size_lists(rows.bottleneck),
            bottlenecks.fixed_size_lists(rows.logits),
        ]
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
        found = [np.empty(0, "S64")]
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
                print(f"{part} is damaged: removed, its pictures are computed again", flush=True)
                part.unlink(missing_ok=True)
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
            return Rows(_keys(table), bottlenecks.matrix(table["bottleneck"]), bottlenecks.matrix(table["logits"]))
        except (OSError, ValueError, pa.ArrowException):
            return None


def _keys(table: pa.Table) -> np.ndarray:
    """Returns the keys of a part, "S64" (n,); ValueError where one is no text, or no ASCII."""
    return np.array(table["key"].to_pylist(), "S64")

"""The outs of bottleneck-extract, put together from the parts of the feature store in whatever order those come."""

import errno
import os
from pathlib import Path

import numpy as np

from stages.library.common import console
from stages.library.common.threads import ahead
from stages.library.extraction.feature_store import Rows
from stages.library.features.cache import DTYPE, ShardWriter
from stages.library.features.source import Source
from stages.library.records.manifest import Manifest

ROWS_PER_BLOCK = 1024


class FeatureTable:
    """Rows of features in the order of a manifest, in a scratch file: memory is independent of their number."""

    def __init__(self, path: Path, manifest: Manifest, feature_width: int, num_logits: int):
        self._path = path
        self._manifest = manifest
        self._widths = feature_width, num_logits
        self._row_bytes = np.dtype(DTYPE).itemsize * (feature_width + num_logits)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self._order = np.argsort(manifest.keys, kind="stable")
        self._sorted = manifest.keys[self._order]
        self._filled = np.zeros(len(manifest.keys), bool)

    def missing(self, stored: np.ndarray) -> np.ndarray:
        """Returns the rows still to be filled whose keys are not among `stored`; of equal images the first one."""
        rows = np.flatnonzero(~self._filled & ~np.isin(self._manifest.keys, stored))
        return np.sort(rows[np.unique(self._manifest.keys[rows], return_index=True)[1]])

    def fill(self, part: Rows) -> None:
        """Takes from a part what stands in the table; other images are passed over."""
        first, last = (np.searchsorted(self._sorted, part.keys, side) for side in ("left", "right"))
        sources = np.repeat(np.arange(len(part.keys)), last - first)  # copies of an image have one source
        rows = np.concatenate([self._order[:0], *(self._order[slice(*ends)] for ends in zip(first, last, strict=True))])
        by_row = np.argsort(rows)
        rows, values = rows[by_row], np.hstack([part.bottleneck, part.logits])[sources[by_row]]
        for run in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows) != 1) + 1):
            content = values[run].tobytes()
            if content and os.pwrite(self._file, content, int(rows[run[0]]) * self._row_bytes) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
            self._filled[rows[run]] = True

    @property
    def complete(self) -> bool:
        """Whether every row is filled."""
        return bool(self._filled.all())

    def write_shards(self, folder: Path, source: Source) -> None:
        """Writes `folder/SPLIT-00000-of-00004.parquet`, one file for each TFRecord shard."""
        ends = np.cumsum(self._manifest.counts).tolist()
        shards = list(zip(self._manifest.paths, [0, *ends], ends, strict=False))

        def write(shard: tuple[Path, int, int]) -> None:
            path, start, stop = shard
            writer = ShardWriter(folder / f"{path.stem}.parquet", source, *self._widths)
            for begin in range(start, stop, ROWS_PER_BLOCK):
                end = min(begin + ROWS_PER_BLOCK, stop)
                content = os.pread(self._file, (end - begin) * self._row_bytes, begin * self._row_bytes)
                values = np.frombuffer(content, DTYPE).reshape(end - begin, -1)
                manifest, rows = self._manifest, slice(begin, end)
                keys, features = manifest.keys[rows].astype(str).tolist(), np.split(values, [self._widths[0]], axis=1)
                about = manifest.groups[rows], manifest.weights[rows]
                writer.write(keys, manifest.labels[rows], features[0], features[1], *about)
            writer.close()

        written = ahead(write, shards, os.cpu_count() or 1)
        for _ in console.progress(written, "write features", "shards", total=len(shards)):
            pass

    def close(self) -> None:
        """Removes the scratch file."""
        os.close(self._file)
        self._path.unlink()

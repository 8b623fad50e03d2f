"""Images into TFRecord shards: which split and shard each goes to, and in which order they stand there.

Both are decided by the image's content, so the shards' bytes do not depend on the order in which a data set yields
its images. Memory stays below one shard: records are spooled to disk unsorted, then each shard is sorted by itself.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from stages.library.common import hashing
from stages.library.records import manifest, tfrecord
from stages.library.records.tfrecord import SPLITS, Record

SPOOL_BYTES = 64 << 20


class Spool:
    """Unsorted records in a folder, one file for each split and shard."""

    def __init__(self, folder: Path, shards: int):
        self._folder = folder
        self._paths = {split: tfrecord.shard_paths(folder, split, shards) for split in SPLITS}
        self._pending: dict[Path, list[Record]] = defaultdict(list)
        self._pending_bytes = 0

    def add(self, split: str, record: Record) -> None:
        """Takes a record; its label is filled in later, when all classes are known."""
        paths = self._paths[split]
        self._pending[paths[int(hashing.uniform(record.key, "shard", 0) * len(paths))]].append(record)
        self._pending_bytes += len(record.encoded)
        if self._pending_bytes > SPOOL_BYTES:
            self._flush()

    def write_shards(self, classes: Sequence[str]) -> None:
        """Replaces every spool file by its shard, sorted by (key, filename), with ranks among `classes` as labels."""
        self._flush()
        labels = {text: label for label, text in enumerate(classes)}
        with manifest.writer(self._folder) as write_shard:
            for path in (path for paths in self._paths.values() for path in paths):
                spool = path.with_suffix(".spool")
                found = tfrecord.read_shard(spool) if spool.exists() else ()
                labelled = (replace(record, label=labels[record.text]) for record in found)
                write_shard(path, sorted(labelled, key=lambda record: (record.key, record.filename)))
                spool.unlink(missing_ok=True)

    def _flush(self) -> None:
        for path, waiting in self._pending.items():
            tfrecord.write_shard(path.with_suffix(".spool"), waiting, append=True)
        self._pending.clear()
        self._pending_bytes = 0

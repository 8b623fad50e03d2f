"""The training images most like an image, by the cosine of the angle between their pooled features."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from app.parts import Part
from stages.library.common.console import UserError
from stages.library.features import joined
from stages.library.features.cache import Features
from stages.library.records import manifest as manifests
from stages.library.records.manifest import Manifest
from stages.library.records.tfrecord import Record

ROWS_PER_BLOCK = 4096  # widened to float32 at once


class Neighbour(NamedTuple):
    """A training image."""

    encoded: bytes  # JPEG or PNG
    name: str  # of its class
    similarity: float  # cosine, in [-1, 1]


@dataclass(frozen=True)
class Neighbours:
    """The training images of a data set with the features of one backbone, or of several joined."""

    features: Features  # of the images, float16 as cached
    lengths: np.ndarray  # float32 (n,), the Euclidean length of each row, 1 for a row of zeros
    manifest: Manifest  # where the images are
    parts: tuple[Part, ...] = ()  # what made the features; `nearest` needs none

    @classmethod
    def open(cls, features: Path, shards: Path) -> "Neighbours":
        """Reads the training split from the folders of a backbone's features and of the shards.

        About 150 bytes of memory an image, beside features of up to 64 MiB. Raises UserError for damaged files.
        """
        found = joined.load(features, ["train"], "bottleneck")
        lengths = _by_rows(found.values, lambda rows: np.linalg.norm(rows, axis=1))
        return cls(found, np.where(lengths == 0, 1, lengths), manifests.read(shards, ["train"]))

    def find(self, image: np.ndarray, count: int) -> list[Neighbour]:
        """Returns the training images most like an image, uint8 (height, width, 3)."""
        outputs = [part.outputs(part.fit(image)[None]) for part in self.parts]
        blocks = [output["bottleneck"].numpy() for output in outputs]
        return self.nearest(joined.side_by_side(blocks, self.features.source.scales)[0], count)

    def nearest(self, bottleneck: np.ndarray, count: int) -> list[Neighbour]:
        """Returns the training images most like one with the pooled features (dim,), the most similar first."""
        similarities = self.similarities(bottleneck)
        rows = np.argsort(-similarities, kind="stable")[:count]
        found = [(self._record(self.features.keys[row]), float(similarities[row])) for row in rows]
        return [Neighbour(record.encoded, record.text, similarity) for record, similarity in found if record]

    def _record(self, key: str) -> Record | None:
        """Returns an image, or None where the shards are no longer those that were indexed."""
        places = np.flatnonzero(self.manifest.keys == key.encode())[:1]
        try:
            return next(self.manifest.records(places), None)
        except (OSError, UserError):
            return None

    def similarities(self, bottleneck: np.ndarray) -> np.ndarray:
        """Returns float32 (n,), the cosine to each training image."""
        query = bottleneck.astype(np.float32)
        query /= np.linalg.norm(query) or 1
        cosines = _by_rows(self.features.values, lambda rows: rows @ query) / self.lengths
        return np.asarray(np.clip(cosines, -1, 1))


def _by_rows(values: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Returns float32 (n,), a function of rows that are widened to float32 a block at a time."""
    blocks = np.array_split(values, len(values) // ROWS_PER_BLOCK + 1)
    return np.concatenate([function(block.astype(np.float32)) for block in blocks])

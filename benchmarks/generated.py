"""Generated features as bottleneck-extract writes them, for benchmarks at sizes that no data set at hand has."""

import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from stages.library.common import artifacts
from stages.library.features import cache
from stages.library.features.cache import ShardWriter, Source

SHARDS = 4
BLOCK_ROWS = 1000
LATENT = 64


def write_features(folder: Path, splits: Mapping[str, int], width: int, classes: int, noise: float = 1.0) -> None:
    """Writes parquet shards of pooled features and two logits.

    Features are as pooled ones are: not negative, correlated, of low effective rank. A class is a point in LATENT
    dimensions, an image that point and noise; a random map and a little noise of each column make the features.

    Args:
      folder: to be made.
      splits: name to number of images, which are shared out evenly among the classes.
      width: of the features.
      classes: their number.
      noise: standard deviation of an image about its class, whose points have deviation 1 in each dimension.
    """
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(classes, LATENT)).astype(np.float32)
    mixing = (rng.normal(size=(LATENT, width)) / np.sqrt(LATENT)).astype(np.float32)
    source = Source("generated", 96, 1.0, "bilinear", False, "", "", tuple(f"{label:03d}" for label in range(classes)))
    folder.mkdir()
    for split, count in splits.items():
        bounds = np.linspace(0, count, SHARDS + 1).astype(int)
        for shard, (first, last) in enumerate(itertools.pairwise(bounds.tolist())):
            path = folder / f"{split}-{shard:05d}-of-{SHARDS:05d}.parquet"
            writer = ShardWriter(path, source, width, 2)
            for start in range(first, last, BLOCK_ROWS):
                rows = np.arange(start, min(start + BLOCK_ROWS, last))
                labels = rows % classes
                keys = [artifacts.sha256_bytes(f"{split} {row}".encode()) for row in rows]
                latent = centres[labels] + rng.normal(scale=noise, size=(len(rows), LATENT)).astype(np.float32)
                values = latent @ mixing + rng.normal(scale=0.3, size=(len(rows), width)).astype(np.float32)
                features = cache.quantize(np.maximum(values, 0))
                writer.write(keys, labels, features, np.zeros((len(rows), 2), np.float16))
            writer.close()

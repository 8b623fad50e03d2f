"""Generated features, as bottleneck-extract writes them, and photographs, for benchmarks without a data set."""

import io
import multiprocessing
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from stages.library.common import artifacts
from stages.library.features import cache
from stages.library.features.cache import ShardWriter
from stages.library.features.source import Source
from stages.library.records.preprocessing import Preprocessing

SPAWN = multiprocessing.get_context("spawn")
SHARDS = 4
BLOCK_ROWS = 1000
IMAGES_AT_ONCE = 64  # of a process
SMALL_PX, SMALL_AT_ONCE = 32, 1000
LATENT = 64
PHOTO_CLASSES = 10
SIZES = ((500, 375), (375, 500), (640, 480))  # width, height


def write_features(folder: Path, splits: Mapping[str, int], width: int, classes: int) -> None:
    """Writes parquet shards of features and two logits of so many images of each split.

    As pooled features they are not negative, correlated, and of low effective rank: a class is a point in LATENT
    dimensions, an image that point and noise; a random map and a little noise of each column make the features.
    """
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(classes, LATENT)).astype(np.float32)
    mixing = (rng.normal(size=(LATENT, width)) / np.sqrt(LATENT)).astype(np.float32)
    source = Source("generated", Preprocessing(96), False, "", "", tuple(f"{label:03d}" for label in range(classes)))
    folder.mkdir()
    for split, count in splits.items():
        for shard, rows in enumerate(np.array_split(np.arange(count), SHARDS)):
            writer = ShardWriter(folder / f"{split}-{shard:05d}-of-{SHARDS:05d}.parquet", source, width, 2)
            for block in np.array_split(rows, range(BLOCK_ROWS, len(rows), BLOCK_ROWS)):
                labels = block % classes
                keys = [artifacts.sha256_bytes(f"{split} {row}".encode()) for row in block]
                latent = centres[labels] + rng.normal(size=(len(block), LATENT)).astype(np.float32)
                values = latent @ mixing + rng.normal(scale=0.3, size=(len(block), width)).astype(np.float32)
                writer.write(keys, labels, cache.quantize(np.maximum(values, 0)), np.zeros((len(block), 2), np.float16))
            writer.close()


def write_photos(
    folder: Path, count: int, seed: int = 0, sizes: tuple[tuple[int, int], ...] = SIZES, first: int = 0
) -> None:
    """Writes `folder/CLASS/NUMBER.jpg`, images of the sizes in turn, width and height in pixels.

    Smooth colours with noise on them compress to some 80 kB at 500 x 375, as photographs do.
    """
    rng = np.random.default_rng(seed)
    for number in range(first, first + count):
        label = number % PHOTO_CLASSES
        width, height = sizes[number % len(sizes)]
        small = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        small[..., label % 3] = small[..., label % 3] // 2 + 12 * label
        image = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC), np.int16)
        noise = rng.integers(-12, 13, (height, width, 1), dtype=np.int16)
        path = folder / f"class_{label}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(image + noise, 0, 255).astype(np.uint8)).save(path, quality=90)


def in_parallel(write: Callable[..., None], folder: Path, count: int) -> None:
    """Calls write(folder, count, first=...) for parts of so many images, in a process for each core."""
    firsts = range(0, count, IMAGES_AT_ONCE)
    counts = [min(IMAGES_AT_ONCE, count - first) for first in firsts]
    with ProcessPoolExecutor(mp_context=SPAWN) as pool:
        list(pool.map(partial(_part, write, folder), counts, firsts))


def _part(write: Callable[..., None], folder: Path, count: int, first: int) -> None:
    write(folder, count, seed=first, first=first)


def write_small_archive(path: Path, count: int) -> None:
    """Writes a zip of `CLASS/NUMBER.jpg`, SMALL_PX a side, some 800 bytes each, all different."""
    parts = [(first, min(SMALL_AT_ONCE, count - first)) for first in range(0, count, SMALL_AT_ONCE)]
    with ProcessPoolExecutor(mp_context=SPAWN) as pool, zipfile.ZipFile(path, "w") as archive:
        for written in pool.map(_small_images, parts):
            for name, content in written:
                archive.writestr(name, content)


def _small_images(part: tuple[int, int]) -> list[tuple[str, bytes]]:
    """Smooth colours of a class with noise on them; `part` has the first number and how many."""
    first, count = part
    rng = np.random.default_rng(first)
    labels = np.arange(first, first + count) % PHOTO_CLASSES
    centres = np.random.default_rng(0).integers(0, 256, (PHOTO_CLASSES, 4, 4, 3))
    small = centres[labels] + rng.normal(scale=60, size=(count, 4, 4, 3))
    noise = rng.normal(scale=8, size=(count, SMALL_PX, SMALL_PX, 1))
    pixels = small.repeat(SMALL_PX // 4, 1).repeat(SMALL_PX // 4, 2) + noise
    found = []
    for number, label, image in zip(range(first, first + count), labels, np.clip(pixels, 0, 255), strict=True):
        content = io.BytesIO()
        Image.fromarray(image.astype(np.uint8)).save(content, "JPEG", quality=85)
        found.append((f"class_{label}/{number:07d}.jpg", content.getvalue()))
    return found

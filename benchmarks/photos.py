"""Generated photographs: JPEG files of photo size in classes, for benchmarks without a data set."""

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 10
SIZES = ((500, 375), (375, 500), (640, 480))  # width, height


def write(folder: Path, count: int, seed: int = 0, sizes: tuple[tuple[int, int], ...] = SIZES) -> None:
    """Writes `folder/CLASS/NUMBER.jpg`.

    Smooth colours with noise on them compress to some 80 kB at 500 x 375, as photographs do.

    Args:
      folder: made where it is missing.
      count: of images, shared out among CLASSES classes.
      seed: of the pixels; another seed gives other images.
      sizes: (width, height) in pixels, in turn.
    """
    rng = np.random.default_rng(seed)
    for number in range(count):
        label = number % CLASSES
        width, height = sizes[number % len(sizes)]
        small = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        small[..., label % 3] = small[..., label % 3] // 2 + 12 * label
        image = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC), np.int16)
        noise = rng.integers(-12, 13, (height, width, 1), dtype=np.int16)
        path = folder / f"class_{label}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(image + noise, 0, 255).astype(np.uint8)).save(path, quality=90)


def write_copies(folder: Path, count: int, originals: int = 500) -> None:
    """Writes `folder/CLASS/NUMBER.jpg`, `count` files that differ by some bytes after the JPEG's end, of few images.

    Much faster than `write`, and as much work to hash, decode and shrink.
    """
    write(folder, min(originals, count))
    paths = sorted(folder.rglob("*.jpg"))
    for number in range(len(paths), count):
        original = paths[number % len(paths)]
        content = original.read_bytes() + number.to_bytes(8, "big")
        original.with_name(f"{number:06d}.jpg").write_bytes(content)

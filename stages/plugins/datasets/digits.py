"""Digits: 1,797 real grey images of 8 x 8 pixels in 10 classes, carried by scikit-learn, so without any download.

The values count the ink in a patch of the scanned form, 0 to 16. They are drawn as on the form, dark on white: networks
trained on photographs tell dark strokes on paper apart better than white ones on black.

No official split. E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stages.library.sources import published_archive
from stages.library.sources.contract import Params, SourceImage, Stray

MAX_VALUE = 16


def fetch(params: Params, raw: Path, cache: Path) -> str:
    """Writes the images and labels as .npy files, so that reading them needs no scikit-learn."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    np.save(raw / "images.npy", np.rint(255 - digits.images * 255 / MAX_VALUE).astype(np.uint8))
    np.save(raw / "labels.npy", digits.target.astype(np.uint8))
    return f"{len(digits.target):,} images from scikit-learn"


def read(params: Params, raw: Path) -> Iterator[SourceImage | Stray]:
    """Yields the images; their names are their ranks."""
    images, labels = (np.load(published_archive.fetched(raw / f"{name}.npy")) for name in ("images", "labels"))
    for index, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        yield SourceImage(f"{index:04d}", str(label), None, pixels)

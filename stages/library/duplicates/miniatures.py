"""Small grey versions of images, in which copies are looked for: 1 kB each."""

import io
import os
from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from stages.library.common.threads import ahead

SIDE_PX = 32


@dataclass(frozen=True)
class Miniatures:
    """Grey images. No side is longer than SIDE_PX, and none is enlarged."""

    pixels: np.ndarray  # uint8 (n, SIDE_PX, SIDE_PX), each image in the upper left corner, 0 outside of it
    sizes: np.ndarray  # int64 (n, 2): height and width, px

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, rows: np.ndarray | slice) -> "Miniatures":
        return Miniatures(self.pixels[rows], self.sizes[rows])

    def mirrored(self, which: np.ndarray) -> "Miniatures":
        """Returns the images, left and right exchanged where `which`, bool (n,), says so."""
        columns = np.arange(SIDE_PX)
        turned = (self.sizes[:, 1:] - 1 - columns) % SIDE_PX  # what is outside stays outside
        taken = np.where(which[:, None], turned, columns)
        return Miniatures(np.take_along_axis(self.pixels, taken[:, None], axis=2), self.sizes)


def miniature(encoded: bytes) -> np.ndarray:
    """Returns a record's image, uint8 (height, width); a side longer than SIDE_PX is shrunk to it, each by itself."""
    with Image.open(io.BytesIO(encoded), formats=("JPEG", "PNG")) as image:
        image.draft(image.mode, (2 * SIDE_PX, 2 * SIDE_PX))
        grey = image.convert("L")
    size = min(grey.width, SIDE_PX), min(grey.height, SIDE_PX)
    return np.asarray(grey if size == grey.size else grey.resize(size, Image.Resampling.BICUBIC))


def miniatures(images: Iterable[bytes]) -> Miniatures:
    """Returns what `miniature` gives of each image, decoded on all cores."""
    pixels, sizes = bytearray(), array("b")
    for found in ahead(miniature, images, os.cpu_count() or 1):
        height, width = found.shape
        pixels += np.pad(found, ((0, SIDE_PX - height), (0, SIDE_PX - width))).tobytes()
        sizes.extend(found.shape)
    stacked = np.frombuffer(pixels, np.uint8).reshape(-1, SIDE_PX, SIDE_PX)
    return Miniatures(stacked, np.array(sizes, np.int64).reshape(-1, 2))

"""Small pictures of all images, side by side on a few JPEG sheets whose size is bounded however many they are."""

import io
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, product
from typing import NamedTuple

import numpy as np
from PIL import Image

from stages.library.figures import thumbnails

COLUMNS = 32  # of a sheet, and as many rows
SIDES_PX = (64, 48, 40, 32, 24, 16, 8)  # whole blocks of JPEG, so that no tile's colours run into the next one's
QUALITIES = (75, 40, 10)
MOST_PIXELS = 30 << 20  # a browser takes four bytes for each
MOST_BYTES = 13 << 20  # of all sheets: less than 19 MB in base64
GROUND = 128  # grey beside an image that is not square


class Sheets(NamedTuple):
    """Tiles in rows of COLUMNS, and COLUMNS rows a sheet, the last one with as many as are left."""

    side_px: int
    images: list[bytes]  # JPEG


def write(images: Callable[[], Iterable[bytes]], count: int, largest_px: int, most_bytes: int = MOST_BYTES) -> Sheets:
    """Returns tiles of `count` images, as large as the bounds allow and no larger than their `largest_px` asks for.

    `images` gives them encoded, once more for each try; they are as `normalise` leaves them.
    """
    enough = next((side for side in reversed(SIDES_PX) if side >= largest_px), SIDES_PX[0])
    sides = [side for side in SIDES_PX if side <= enough and count * side**2 <= MOST_PIXELS] or [SIDES_PX[-1]]
    tries = [*product(sides, QUALITIES[:1]), *product(sides[-1:], QUALITIES[1:])]
    for side_px, quality in tries:
        found = Sheets(side_px, list(_sheets(images(), side_px, quality)))
        if sum(map(len, found.images)) <= most_bytes:
            break
    return found


def _sheets(images: Iterable[bytes], side_px: int, quality: int) -> Iterator[bytes]:
    tiles = _tiles(images, side_px)
    while some := list(islice(tiles, COLUMNS**2)):
        yield _encode(some, side_px, quality)


def _tiles(images: Iterable[bytes], side_px: int) -> Iterator[np.ndarray]:
    for encoded in images:
        pixels = thumbnails.thumbnail(encoded, side_px)
        height, width = pixels.shape[:2]
        top, left = (side_px - height) // 2, (side_px - width) // 2
        tile = np.full((side_px, side_px, 3), GROUND, np.uint8)
        tile[top : top + height, left : left + width] = pixels
        yield tile


def _encode(tiles: list[np.ndarray], side_px: int, quality: int) -> bytes:
    rows = -(-len(tiles) // COLUMNS)
    sheet = np.full((rows * side_px, COLUMNS * side_px, 3), GROUND, np.uint8)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, COLUMNS)
        sheet[row * side_px : (row + 1) * side_px, column * side_px : (column + 1) * side_px] = tile
    content = io.BytesIO()
    Image.fromarray(sheet).save(content, "JPEG", quality=quality, subsampling=0)
    return content.getvalue()

"""The small pictures: each in its place, and never more bytes or pixels than there may be."""

import io

import numpy as np
import pytest
from PIL import Image

from stages.library.figures import thumbnails
from stages.library.mapping import tiles


def encoded(pixels):
    content = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(content, "PNG")
    return content.getvalue()


def noise(count, side_px=64):
    rng = np.random.default_rng(0)
    return [encoded(rng.integers(0, 256, (side_px, side_px, 3))) for _ in range(count)]


def test_each_image_has_the_tile_of_its_number_whole_on_grey():
    colours = np.random.default_rng(1).integers(0, 256, (1030, 3))
    images = [encoded(np.full((8, 16, 3), colour)) for colour in colours]
    found = tiles.write(lambda: images, len(images), largest_px=16)
    assert (found.side_px, len(found.images)) == (16, 2)
    first, second = map(thumbnails.decode, found.images)
    assert first.shape == (32 * 16, 32 * 16, 3)
    assert second.shape == (16, 32 * 16, 3)
    for index, sheet, row, column in ((0, first, 0, 0), (33, first, 1, 1), (1023, first, 31, 31), (1029, second, 0, 5)):
        tile = sheet[row * 16 : row * 16 + 16, column * 16 : column * 16 + 16].astype(int)
        assert abs(tile[6:10] - colours[index]).max() < 24
        assert abs(tile[[0, 1, -2, -1]] - tiles.GROUND).max() < 24


@pytest.mark.parametrize(("largest_px", "side_px"), [(1, 8), (8, 8), (9, 16), (28, 32), (32, 32), (33, 40), (4000, 64)])
def test_small_images_have_small_tiles(largest_px, side_px):
    assert tiles.write(lambda: noise(1), 1, largest_px).side_px == side_px


def test_more_images_have_fewer_pixels(monkeypatch):
    monkeypatch.setattr(tiles, "MOST_PIXELS", 9 * 48**2)
    assert tiles.write(lambda: noise(9), 9, 64).side_px == 48
    assert tiles.write(lambda: noise(10), 10, 64).side_px == 40
    monkeypatch.setattr(tiles, "MOST_PIXELS", 1)
    assert tiles.write(lambda: noise(2), 2, 64).side_px == 8


def test_what_jpeg_cannot_shrink_becomes_smaller_and_coarser_until_it_fits():
    images, sizes = noise(64), {}
    for most_bytes in (10**9, 100_000, 4000, 2000):
        found = tiles.write(lambda: images, len(images), 64, most_bytes)
        sizes[most_bytes] = found.side_px, sum(map(len, found.images)) <= most_bytes
    assert sizes[10**9] == (64, True)
    assert 8 < sizes[100_000][0] < 64
    assert (sizes[100_000][1], sizes[4000]) == (True, (8, True))


def test_the_bound_holds_for_as_many_images_of_noise_as_there_may_be():
    """By the most bytes that a tile of pure noise takes at the last resort."""
    last = sum(len(sheet) for sheet in tiles._sheets(noise(1024), 8, tiles.QUALITIES[-1]))
    assert last / 1024 * 200_000 < tiles.MOST_BYTES

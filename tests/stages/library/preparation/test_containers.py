"""An image within another format shows the pixels that it would show alone; what is transparent is white."""

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from checks.image_builders import PNG, bitmap, encode, icon, tiff_jpeg
from stages.library.figures.thumbnails import decode
from stages.library.preparation.normalisation import ImageError, normalise
from tests.zoo import keyed, png

# Which pytest would make errors: of an icon of another size than its list of images says, which many are.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")


def shown(content):
    return decode(normalise(content).encoded).tolist()


MASKED = 0b01000000, 0, 0, 0  # of a row of two: the second is transparent
BITMAPS = {
    # bits: (colours, one row of two pixels, what is shown without the mask); colours are blue, green, red
    1: (bytes([1, 2, 3, 0, 4, 5, 6, 0]), bytes([0b01000000, 0, 0, 0]), [[3, 2, 1], [6, 5, 4]]),
    4: (bytes([1, 2, 3, 0, 4, 5, 6, 0] + [0] * 56), bytes([0x01, 0, 0, 0]), [[3, 2, 1], [6, 5, 4]]),
    8: (bytes([1, 2, 3, 0, 4, 5, 6, 0] + [0] * 1016), bytes([0, 1, 0, 0]), [[3, 2, 1], [6, 5, 4]]),
    24: (b"", bytes([10, 20, 30, 40, 50, 60, 0, 0]), [[30, 20, 10], [60, 50, 40]]),
}


@pytest.mark.parametrize("bits", BITMAPS)
def test_a_bitmap_in_an_icon_is_white_where_its_mask_is_set(bits):
    colours, row, pixels = BITMAPS[bits]
    for mask, expected in ((bytes(4), pixels), (bytes(MASKED), [pixels[0], [255] * 3])):
        content = bytearray(icon(bitmap(2, 2, bits, data=colours + row + mask)))
        content[12:14] = struct.pack("<H", bits)  # which the list of images says, too
        assert shown(bytes(content)) == [expected]


def test_a_bitmap_of_32_bits_in_an_icon_blends_with_white_by_its_alpha():
    row = bytes([0, 100, 200, 255, 0, 0, 0, 51])
    assert shown(icon(bitmap(2, 2, 32, data=row + bytes(4)))) == [[[200, 100, 0], [204] * 3]]


def test_a_png_in_an_icon_is_read_as_alone_whatever_the_icon_says_of_its_size():
    """The list of images in an icon has a byte for each side; the largest of them is taken."""
    for content, expected in (
        (png(2, 8, [[9, 8, 7, 6, 5, 4]], size=(2, 1)), [[[9, 8, 7], [6, 5, 4]]]),
        (png(4, 16, [struct.pack(">HHHH", 0x2200, 0xFFFF, 0x2200, 0)], size=(2, 1)), [[[34] * 3, [255] * 3]]),
        (png(6, 8, [[0, 0, 0, 51, 9, 8, 7, 255]], size=(2, 1)), [[[204] * 3, [9, 8, 7]]]),
        (keyed(0, 16, [[0x2222, 0x2223]], 0x2222), [[[255] * 3, [34] * 3]]),
    ):
        assert shown(content) == expected
        assert shown(icon(content)) == expected
        assert shown(icon(content, times=3)) == expected
        found = normalise(icon(content))
        with Image.open(io.BytesIO(found.encoded), formats=("PNG",)) as image:
            assert image.size == (2, 1)
    with pytest.raises(ImageError, match=r"^damaged: "):
        normalise(icon(PNG[:-60]))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_in_a_tiff_is_read_as_alone(mode):
    """Of one colour, which a JPEG keeps: its blocks have nothing but a mean."""
    grey = Image.new("L", (16, 16), 77)
    if mode == "L":
        alone, inside = encode(grey, "JPEG", quality=100), tiff_jpeg(encode(grey, "JPEG", quality=100), 16, 16)
    else:
        image = grey.convert("RGB")
        alone, inside = encode(image, "JPEG", quality=100), encode(image, "TIFF", compression="jpeg", quality=100)
    assert shown(alone) == shown(inside) == np.full((16, 16, 3), 77).tolist()


FORMATS: dict[str, dict[str, Any]] = {
    "PNG": {}, "TIFF": {}, "TIFF of LZW": {"compression": "tiff_lzw"}, "WEBP": {"lossless": True, "exact": True},
    "JPEG2000": {}, "TGA": {}, "ICO": {"sizes": [(2, 2)]},
    "ICO of a bitmap": {"sizes": [(2, 2)], "bitmap_format": "bmp"},
}  # fmt: skip


@pytest.mark.parametrize("kind", FORMATS)
def test_all_formats_with_alpha_blend_with_white_alike(kind):
    """0 with 51 of 255 is 204, 100 with none is white, 100 with 204 is 131, and 7 alone is 7."""
    pixels = [[[0, 0, 0, 51], [100, 100, 100, 0]], [[100, 100, 100, 204], [7, 8, 9, 255]]]
    content = encode(Image.fromarray(np.array(pixels, np.uint8)), kind.partition(" ")[0], **FORMATS[kind])
    assert shown(content) == [[[204] * 3, [255] * 3], [[131] * 3, [7, 8, 9]]]

"""HEIC as phones write it, in the same processes and under the same limits as every other format."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from stages.library.figures import thumbnails
from stages.library.preparation.decoding_workers import Workers
from stages.library.preparation.normalisation import ImageError
from stages.library.sources import image_files

FAKE = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)


def test_without_the_package_the_reason_names_the_requirement():
    assert image_files.HEIC_REASON.endswith("(pip install -r requirements-heif.txt)")
    expected = "HEIC, damaged" if image_files.HAS_HEIC else image_files.HEIC_REASON
    with Workers(1) as workers, pytest.raises(ImageError, match=r"^HEIC, ") as caught:
        workers.normalise(FAKE)
    assert str(caught.value) == expected
    assert image_files.should_be_image("no suffix", FAKE)


@pytest.fixture
def encode():
    pytest.importorskip("pillow_heif", reason="requirements-heif.txt is not installed")
    from stages.library.preparation import image_formats  # registers it

    assert "HEIF" in image_formats.FORMATS

    def make(height, width, **options):
        rows, columns = np.mgrid[:height, :width]
        pixels = np.stack([columns * 255 // width, rows * 255 // height, np.full((height, width), 90)], axis=-1)
        out = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(out, "HEIF", quality=95, **options)
        return pixels, out.getvalue()

    return make


def test_pixels_come_back_upright_small_ones_as_png_and_photographs_as_jpeg(encode):
    turned = Image.Exif()
    turned[0x0112] = 6
    with Workers(1) as workers:
        for height, width, kind in ((48, 64, "png"), (1200, 1000, "jpeg")):
            pixels, content = encode(height, width)
            found = workers.normalise(content)
            assert (found.height, found.width, found.format) == (height, width, kind)
            assert np.abs(thumbnails.decode(found.encoded).astype(int) - pixels).mean() < 3
        found = workers.normalise(encode(48, 64, exif=turned.tobytes())[1])
        assert (found.height, found.width) == (64, 48)


def test_damage_and_sizes_that_lie_are_rejected(encode):
    _, content = encode(48, 64)
    large = bytearray(content)
    place = content.index(b"ispe") + 8
    large[place : place + 8] = struct.pack(">II", 60_000, 60_000)
    with Workers(1) as workers:
        with pytest.raises(ImageError, match=r"more than 100 megapixels|damaged"):
            workers.normalise(bytes(large))
        with pytest.raises(ImageError, match="damaged"):
            workers.normalise(content[: len(content) // 2])

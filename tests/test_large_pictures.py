"""Large pictures that can't keep their bytes: JPEG becomes JPEG again, other formats lose nothing."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from stages.library.pictures import decode, normalise
from tests.photos import encode, exif, photo


@pytest.fixture(scope="module")
def large():
    """A picture of more than a megapixel, smooth with noise on it, as photographs are."""
    smooth = np.asarray(photo().resize((1200, 900), Image.Resampling.BICUBIC), int)
    noise = np.random.default_rng(0).integers(-8, 9, (900, 1200, 1))
    return Image.fromarray(np.clip(smooth + noise, 0, 255).astype(np.uint8))


def test_a_large_jpeg_that_cannot_keep_its_bytes_becomes_jpeg_again(large):
    plain = encode(large, "JPEG", quality=90)
    forms = {
        "turned": (encode(large, "JPEG", quality=90, exif=exif(6)), np.rot90(decode(plain), -1)),
        "turned mpo": (encode(large, "MPO", quality=90, exif=exif(3)), decode(plain)[::-1, ::-1]),
        "damaged end": (plain[:-2] + b"7\xd9", decode(plain)),
        "grey": (encode(large.convert("L"), "JPEG", quality=90, exif=exif(2)), None),
        "cmyk": (encode(large.convert("CMYK"), "JPEG", quality=90), None),
    }
    for name, (content, upright) in forms.items():
        result = normalise(content)
        again = decode(result.encoded)
        assert result.format == "jpeg", name
        assert again.shape == (result.height, result.width, 3), name
        assert result.key == hashlib.sha256(content).hexdigest()
        assert len(result.encoded) < 3 * len(content), name
        assert np.abs(again.astype(int) - result.pixels).mean() < 1.5, name
        if upright is not None:
            np.testing.assert_array_equal(result.pixels[: result.height - 16], upright[: result.height - 16])
        assert normalise(result.encoded).encoded == result.encoded, name
        assert normalise(content).encoded == result.encoded, name


def test_a_large_picture_of_another_format_loses_nothing(large):
    for kind in ("BMP", "TIFF", "WEBP"):
        result = normalise(encode(large, kind, lossless=True))
        assert result.format == "png"
        np.testing.assert_array_equal(decode(result.encoded), np.asarray(large))

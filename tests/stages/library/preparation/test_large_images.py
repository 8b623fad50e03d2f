"""Images of many megapixels: which stay JPEG, which lose nothing."""

import hashlib
import random

import numpy as np
import pytest
from PIL import Image

from checks import fuzz_images
from checks.image_builders import encode, photo
from stages.library.figures.thumbnails import decode
from stages.library.preparation import normalisation
from stages.library.preparation.normalisation import normalise
from tests.stages.library.preparation.test_normalisation import damaged, outcome
from tests.zoo import exif


@pytest.fixture(scope="module")
def large():
    """An image of more than a megapixel, smooth with noise on it, as photographs are."""
    smooth = np.asarray(photo().resize((1200, 900), Image.Resampling.BICUBIC), int)
    noise = np.random.default_rng(0).integers(-8, 9, (900, 1200, 1))
    return Image.fromarray(np.clip(smooth + noise, 0, 255).astype(np.uint8))


def test_a_large_jpeg_that_cannot_keep_its_bytes_becomes_jpeg_again(large, tmp_path):
    plain, grey = encode(large, "JPEG", quality=90), encode(large.convert("L"), "JPEG", quality=90)
    forms = {
        "turned": (encode(large, "JPEG", quality=90, exif=exif(6)), np.rot90(decode(plain), -1)),
        "turned mpo": (encode(large, "MPO", quality=90, exif=exif(3)), decode(plain)[::-1, ::-1]),
        "damaged end": (plain[:-2] + b"7\xd9", decode(plain)),
        "grey": (encode(large.convert("L"), "JPEG", quality=90, exif=exif(2)), decode(grey)[:, ::-1]),
        "cmyk": (encode(large.convert("CMYK"), "JPEG", quality=90), None),
    }
    for name, (content, upright) in forms.items():
        result = normalise(content)
        again = decode(result.encoded)
        assert (result.format, result.key) == ("jpeg", hashlib.sha256(content).hexdigest()), name
        assert again.shape == (result.height, result.width, 3), name
        assert len(result.encoded) < 3 * len(content), name
        if upright is not None:
            assert np.abs(again.astype(int) - upright)[: result.height - 16].mean() < 1.5, name
        assert outcome(result.encoded) == outcome(content) == result.encoded, name
        fuzz_images.read(content, tmp_path)


def test_a_large_image_of_another_format_loses_nothing(large):
    for kind in ("BMP", "TIFF", "WEBP"):
        result = normalise(encode(large, kind, lossless=True))
        assert result.format == "png"
        np.testing.assert_array_equal(decode(result.encoded), np.asarray(large))


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_is_looked_at_has_the_mean_of_all_pixels_and_is_rejected_wherever_it_ends(large, progressive):
    for image in (large, large.convert("L"), large.crop((0, 0, 1195, 893))):
        content = encode(image, "JPEG", quality=90, progressive=progressive)
        pixels = decode(content) if image.mode == "RGB" else decode(content)[..., :1]
        result = normalise(content)
        assert result.encoded == content
        assert (result.height, result.width) == pixels.shape[:2]
        assert result.values.count == pixels.size
        assert abs(result.values.total / pixels.size - pixels.mean()) < 0.5  # noise is cut off at 0
        assert pixels.min() <= result.values.minimum < result.values.maximum <= pixels.max()
        for kept in (0.1, 0.5, 0.9, 0.99):
            assert outcome(content[: int(kept * len(content))]).startswith("damaged: image file is truncated")


@pytest.mark.parametrize("progressive", [False, True])
def test_damage_is_found_as_by_decoding_in_full(large, monkeypatch, progressive):
    whole = encode(large.resize((300, 200)), "JPEG", quality=90, progressive=progressive)
    dice = random.Random(0)
    contents = [damaged(whole, dice) for _ in range(300)]
    looked_at = [outcome(content) for content in contents]
    monkeypatch.setattr(normalisation, "LOOKED_AT_PX", normalisation.MAX_PIXELS)
    assert looked_at == [outcome(content) for content in contents]
    assert 10 < sum(isinstance(found, str) for found in looked_at) < 290

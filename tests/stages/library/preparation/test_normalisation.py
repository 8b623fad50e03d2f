"""Images of every kind become upright 8-bit JPEG or PNG, and what is none is rejected."""

import hashlib
import io
import random
import struct
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from checks.image_builders import encode, photo
from stages.library.figures.thumbnails import decode
from stages.library.preparation import normalisation
from stages.library.preparation.normalisation import ImageError, Values, normalise
from stages.library.records import preprocessing
from stages.library.records.preprocessing import Preprocessing
from tests import memory, processes
from tests.photos import bomb, exif, png, rgb_rows, turned
from tests.zoo import CONVERTED, GREY, JPEG, KEPT, KINDS, RGB, Kind

# pytest puts its filters in front of the module's own, which another test checks in a process of its own.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

MORE = [
    Kind("JPEG with restarts", encode(photo(), "JPEG", restart_marker_blocks=2), KEPT, RGB, 12),
    Kind("JPEG with fill bytes", JPEG.replace(b"\xff\xdb", b"\xff\xff\xff\xdb", 1), KEPT, RGB, 12),
    Kind("TGA", encode(photo(), "TGA"), CONVERTED, RGB),
    Kind("PPM", encode(photo(), "PPM"), CONVERTED, RGB),
    Kind("16-bit grey and more", png(0, 16, rgb_rows((GREY * np.uint16(256) + 255).astype(">u2"))), CONVERTED, GREY),
    Kind("16-bit RGBA PNG", png(6, 16, rgb_rows(np.asarray(photo().convert("RGBA")).astype(">u2") * 257)),
         CONVERTED, RGB),
]  # fmt: skip
GOOD = {kind.name: kind for kind in (*KINDS, *MORE) if kind.accepted}


def difference(encoded, pixels):
    """The largest one of an image and some pixels, grey or RGB."""
    pixels = np.asarray(pixels, int)
    return np.abs(decode(encoded) - pixels.reshape(*pixels.shape[:2], -1)).max()


@pytest.mark.parametrize("name", GOOD)
def test_good_files_keep_their_bytes_or_become_png_with_the_key_of_their_own_bytes(name):
    kind = GOOD[name]
    result = normalise(kind.content)
    assert (result.encoded == kind.content) == (kind.outcome == KEPT)
    assert result.key == hashlib.sha256(kind.content).hexdigest()
    assert difference(result.encoded, kind.pixels) <= kind.tolerance
    if kind.outcome == KEPT:
        return
    assert result.format == "png"
    with Image.open(io.BytesIO(result.encoded), formats=("PNG",)) as image:
        assert image.mode in ("L", "RGB")
        assert image.size == (result.width, result.height)
        again = np.asarray(image)
    assert result.values == Values(int(again.min()), int(again.max()), int(again.sum()), again.size)
    assert normalise(kind.content).encoded == result.encoded


@pytest.mark.parametrize("size", [(65_535, 1), (1, 65_535)])
@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_the_longest_row_that_is_used_is_shrunk_in_little_memory(size, kind):
    pytest.importorskip("tensorflow")
    result = normalise(encode(Image.new("L", size, 7), kind))
    preparation = Preprocessing(384)
    preprocessing.fit(np.zeros((9, 9, 3), np.uint8), preparation)  # TensorFlow has started
    memory.forget_peak()
    before = memory.peak_mib()
    assert preprocessing.fit(preprocessing.decode(result.encoded), preparation).shape == (384, 384, 3)
    assert memory.peak_mib() - before < 500


@pytest.mark.parametrize("name", GOOD)
def test_tensorflow_decodes_every_result(name):
    tensorflow = pytest.importorskip("tensorflow")
    result = normalise(GOOD[name].content)
    one = {"jpeg": tensorflow.io.decode_jpeg, "png": tensorflow.io.decode_png}[result.format]
    for decoder in (one, tensorflow.io.decode_image):
        pixels = decoder(result.encoded, channels=3).numpy()
        assert pixels.dtype == np.uint8
        assert pixels.shape == (result.height, result.width, 3)
        tolerance = 12 if result.format == "jpeg" else 0  # the fast integer DCT, and rounding of chroma upsampling
        assert difference(result.encoded, pixels) <= tolerance


DAMAGED = ["progressive JPEG", "JPEG with restarts", "PNG named .jpg", "16-bit RGB PNG", "JPEG 2000", "WebP", "icon"]


@pytest.mark.parametrize("name", [*DAMAGED, "TIFF of several pages", "animated GIF"])
def test_tensorflow_decodes_whatever_survives_damage(name):
    tensorflow = pytest.importorskip("tensorflow")
    whole = GOOD[name].content
    dice = random.Random(name)
    survived, reasons = 0, []
    for _ in range(300):
        place = dice.randrange(len(whole))
        other, skipped = dice.choice([(1, 1), (5, 0), (0, dice.randrange(1, 20))])
        try:
            result = normalise(whole[:place] + dice.randbytes(other) + whole[place + skipped :])
        except ImageError as error:
            reasons.append(str(error))
            continue
        survived += 1
        pixels = tensorflow.io.decode_image(result.encoded, channels=3, expand_animations=False).numpy()
        assert pixels.shape == (result.height, result.width, 3)
    assert survived
    assert reasons
    # One line each, and no memory address: the same on every run.
    assert not any("\n" in reason or "0x" in reason for reason in reasons)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied_once(orientation, kind):
    options: dict[str, dict[str, Any]] = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}
    content = encode(turned(orientation), kind, exif=exif(orientation), **options.get(kind, {}))
    result = normalise(content)
    assert difference(result.encoded, photo()) <= (4 if kind == "JPEG" else 0)
    assert (result.encoded == content) == (orientation == 1 and kind in ("JPEG", "PNG"))
    assert normalise(result.encoded).encoded == result.encoded


def test_transparency_is_on_white():
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0, :, 3] = [0, 51, 255]
    for image in (Image.fromarray(pixels), Image.fromarray(pixels).convert("LA")):
        assert difference(normalise(encode(image, "PNG")).encoded, [[[255], [204], [0]]]) == 0
    key = tuple(photo().getpixel((3, 5)))
    hole = png(2, 8, rgb_rows(np.asarray(photo())), (b"tRNS", struct.pack(">HHH", *key)))
    assert decode(normalise(hole).encoded)[5, 3].tolist() == [255, 255, 255]
    gif = encode(photo().quantize(8), "GIF", transparency=0)
    assert (decode(normalise(gif).encoded) == 255).all(axis=-1).any()


@pytest.mark.parametrize(
    ("content", "reason"),
    [(bomb(10_001), "more than 100 megapixels: 10001 x 10001 px"), (np.zeros((0, 4), np.uint8), "no pixels")],
)
def test_what_can_not_be_used_is_rejected_with_a_reason(content, reason):
    with pytest.raises(ImageError, match=reason):
        normalise(content)


def test_pillow_warnings_stay_silent_whatever_the_filters():
    code = (
        "import io; from PIL import Image; from stages.library.preparation.normalisation import normalise; "
        "out = io.BytesIO(); Image.new('1', (9_600, 9_600)).save(out, 'PNG'); "  # Pillow warns from 89 megapixels on
        "print(normalise(out.getvalue()).width)"
    )
    done = processes.run(sys.executable, "-W", "error", "-c", code)
    assert (done.stdout, done.stderr) == ("9600\n", "")


pixel_arrays = st.one_of(
    arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=9)),
    arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3]))),
)


@settings(max_examples=50)
@given(pixel_arrays)
def test_arrays_become_png_of_the_same_pixels(array):
    result = normalise(array)
    expected = array.reshape(*array.shape[:2], -1)
    assert result.format == "png"
    assert result.key == hashlib.sha256(str(expected.shape).encode() + expected.tobytes()).hexdigest()
    np.testing.assert_array_equal(decode(result.encoded), np.broadcast_to(expected, (*array.shape[:2], 3)))
    assert normalise(np.asfortranarray(array)).encoded == result.encoded


@pytest.mark.parametrize("array", [np.zeros((2, 2), np.float32), np.zeros((2, 2, 4), np.uint8), np.zeros(4, np.uint8)])
def test_other_arrays_are_errors(array):
    with pytest.raises(ValueError, match="Received"):
        normalise(array)


def test_sums_of_large_white_images_do_not_overflow():
    white = Image.new("L", (2**25 + 1, 1), 255)
    assert normalisation._values(white, 2**25 + 1) == Values(255, 255, 255 * (2**25 + 1), 2**25 + 1)


def test_images_are_decoded_no_smaller_than_asked():
    encoded = encode(Image.new("RGB", (640, 480), "red"), "JPEG")
    heights = {enough: decode(encoded, enough_px=enough).shape[0] for enough in (1, 60, 61, 120, 121, 241, 10_000)}
    assert heights == {1: 60, 60: 60, 61: 120, 120: 120, 121: 240, 241: 480, 10_000: 480}
    assert decode(encode(Image.new("L", (640, 480)), "JPEG"), enough_px=60).shape == (60, 80, 3)
    assert decode(encode(Image.new("RGB", (640, 480)), "PNG"), enough_px=60).shape == (480, 640, 3)

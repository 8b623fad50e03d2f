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
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageFile

from checks.image_builders import JPEG, chunk, encode, icon, photo
from stages.library.figures.thumbnails import decode
from stages.library.preparation import normalisation
from stages.library.preparation.normalisation import ImageError, Values, normalise
from stages.library.records import preprocessing
from stages.library.records.preprocessing import Preprocessing
from tests import memory, processes
from tests.zoo import CONVERTED, GREY, KEPT, KINDS, RGB, Kind, bomb, exif, keyed, png, turned

# pytest puts its filters in front of the module's own, which another test checks in a process of its own.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

TRANSLUCENT = Image.fromarray(np.array([[[0, 0, 0, 0], [0, 0, 0, 51], [0, 0, 0, 255]]], np.uint8))
HOLE = (RGB[5, 3] == RGB).all(axis=-1, keepdims=True)
PALETTE = photo().quantize(8)
MORE = [
    Kind("JPEG with restarts", encode(photo(), "JPEG", restart_marker_blocks=2), KEPT, RGB, 12),
    Kind("JPEG with fill bytes", JPEG.replace(b"\xff\xdb", b"\xff\xff\xff\xdb", 1), KEPT, RGB, 12),
    Kind("TGA", encode(photo(), "TGA"), CONVERTED, RGB),
    Kind("PPM", encode(photo(), "PPM"), CONVERTED, RGB),
    Kind("16-bit grey and more", png(0, 16, (GREY * np.uint16(256) + 255).astype(">u2")), CONVERTED, GREY),
    Kind("16-bit RGBA PNG", png(6, 16, np.asarray(photo().convert("RGBA")).astype(">u2") * 257), CONVERTED, RGB),
    Kind("RGB of some alpha", encode(TRANSLUCENT, "PNG"), CONVERTED, [[[255], [204], [0]]]),
    Kind("grey of some alpha", encode(TRANSLUCENT.convert("LA"), "PNG"), CONVERTED, [[255, 204, 0]]),
    Kind("PNG of a transparent colour", png(2, 8, RGB, (b"tRNS", struct.pack(">HHH", *RGB[5, 3]))), CONVERTED,
         np.where(HOLE, 255, RGB)),
    Kind("GIF of a transparent colour", encode(PALETTE, "GIF", transparency=0), CONVERTED,
         np.where(np.asarray(PALETTE)[..., None] == 0, 255, np.asarray(PALETTE.convert("RGB")))),
]  # fmt: skip


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("put", [bytes, icon])
def test_a_grey_png_is_white_where_all_bits_are_those_of_its_transparent_colour(bits, orientation, put):
    most = 2**bits - 1
    samples = np.array([[0, 1, most, most - 1]] * 2, np.uint16)
    shown = np.array([[value * 255 // most if bits < 16 else value >> 8 for value in row] for row in samples])
    for colour in (0, 1, most, most - 1):
        expected = np.where(samples == colour, 255, shown)
        for junk in {0, 1 << bits & 0xFFFE} - {2}:  # bits above those of a sample don't count
            content = keyed(0, bits, samples, colour | junk)
            if orientation != 1:
                content = content[:33] + chunk(b"eXIf", exif(orientation)[6:]) + content[33:]
            turned_back = np.rot90(expected, -1) if orientation == 6 else expected
            np.testing.assert_array_equal(decode(normalise(put(content)).encoded)[..., 0], turned_back)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("put", [bytes, icon])
def test_an_rgb_png_is_white_where_all_bits_are_those_of_its_transparent_colour(bits, put):
    shift = bits - 8
    near = [(9 << shift, 8 << shift, 7 << shift), (9 << shift, 8 << shift, 6 << shift)]
    near += [(9 << shift, 8 << shift, (7 << shift) + 1)] if shift else []
    samples = np.array([near], np.uint16)
    for index, colour in enumerate(near):
        expected = (samples >> shift).astype(np.uint8)
        expected[0, index] = 255
        np.testing.assert_array_equal(decode(normalise(put(keyed(2, bits, samples, *colour))).encoded), expected)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("put", [bytes, icon])
def test_a_palette_png_blends_with_white_by_its_table_of_alpha(bits, put):
    """Which may be shorter than the palette: what it doesn't name is opaque."""
    rows = [np.packbits([*np.unpackbits(np.array([0, 1], np.uint8)).reshape(2, 8)[:, 8 - bits :].ravel()])] * 2
    for alpha, expected in (((0,), [255, 100]), ((51,), [204, 100]), ((255, 0), [0, 255]), ((0, 0), [255, 255])):
        content = png(3, bits, rows, (b"PLTE", bytes([0] * 3 + [100] * 3)), (b"tRNS", bytes(alpha)), size=(2, 2))
        np.testing.assert_array_equal(decode(normalise(put(content)).encoded)[0, :, 0], expected)


SIDES = st.integers(1, 9)
GOOD = {kind.name: kind for kind in (*KINDS, *MORE) if kind.accepted}


def outcome(content):
    try:
        return normalise(content).encoded
    except ImageError as error:
        return str(error)


def damaged(content, dice):
    """Some bytes are changed, put in or left out, at a random place."""
    place = dice.randrange(len(content))
    put_in, skipped = dice.choice([(1, 1), (5, 0), (0, dice.randrange(1, 20)), (5, 40)])
    return content[:place] + dice.randbytes(put_in) + content[place + skipped :]


def difference(encoded, pixels):
    """The largest one of an image and some pixels, grey or RGB."""
    pixels = np.asarray(pixels, int)
    return np.abs(decode(encoded) - pixels.reshape(*pixels.shape[:2], -1)).max()


@pytest.mark.parametrize("name", GOOD)
def test_good_files_keep_their_bytes_or_become_png_which_tensorflow_decodes(name, monkeypatch):
    """With the key of their own bytes; and the pixels to be decoded are announced once, before that."""
    tensorflow, kind = pytest.importorskip("tensorflow"), GOOD[name]
    events: list[object] = []
    load = ImageFile.ImageFile.load

    def loaded(image):
        events.append("load")
        return load(image)

    with monkeypatch.context() as patch:
        patch.setattr(ImageFile.ImageFile, "load", loaded)
        result = normalise(kind.content, before_decoding=events.append)
    assert events[0] == result.width * result.height
    assert set(events[1:]) == {"load"}
    assert (result.encoded == kind.content) == (kind.outcome == KEPT)
    assert result.key == hashlib.sha256(kind.content).hexdigest()
    assert difference(result.encoded, kind.pixels) <= kind.tolerance
    one = {"jpeg": tensorflow.io.decode_jpeg, "png": tensorflow.io.decode_png}[result.format]
    for decoder in (one, tensorflow.io.decode_image):
        pixels = decoder(result.encoded, channels=3).numpy()
        assert (pixels.dtype, pixels.shape) == (np.uint8, (result.height, result.width, 3))
        tolerance = 12 if result.format == "jpeg" else 0  # the fast integer DCT, and rounding of chroma upsampling
        assert difference(result.encoded, pixels) <= tolerance
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


DAMAGED = ["progressive JPEG", "JPEG with restarts", "PNG named .jpg", "16-bit RGB PNG", "JPEG 2000", "WebP", "icon"]


@pytest.mark.parametrize("name", [*DAMAGED, "TIFF of several pages", "animated GIF"])
def test_tensorflow_decodes_whatever_survives_damage(name):
    tensorflow = pytest.importorskip("tensorflow")
    dice = random.Random(name)
    found = [outcome(damaged(GOOD[name].content, dice)) for _ in range(300)]
    reasons = [each for each in found if isinstance(each, str)]
    assert 0 < len(reasons) < 300
    # One line each, and no memory address: the same on every run.
    assert not any("\n" in reason or "0x" in reason for reason in reasons)
    for encoded in found:
        if isinstance(encoded, bytes):
            pixels = tensorflow.io.decode_image(encoded, channels=3, expand_animations=False).numpy()
            assert pixels.shape == decode(encoded).shape


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied_once(orientation, kind):
    options: dict[str, dict[str, Any]] = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}
    content = encode(turned(orientation), kind, exif=exif(orientation), **options.get(kind, {}))
    result = normalise(content)
    assert difference(result.encoded, RGB) <= (4 if kind == "JPEG" else 0)
    assert (result.encoded == content) == (orientation == 1 and kind in ("JPEG", "PNG"))
    assert normalise(result.encoded).encoded == result.encoded


def test_what_can_not_be_used_is_rejected_with_a_reason():
    for content, error, reason in (
        (bomb(10_001), ImageError, "more than 100 megapixels: 10001 x 10001 px"),
        (np.zeros((0, 4), np.uint8), ImageError, "no pixels"),
        (np.zeros((2, 2), np.float32), ValueError, "Received"),
        (np.zeros((2, 2, 4), np.uint8), ValueError, "Received"),
        (np.zeros(4, np.uint8), ValueError, "Received"),
    ):
        with pytest.raises(error, match=reason):
            normalise(content)


def test_pillow_warnings_stay_silent_whatever_the_filters():
    code = (
        "from checks.image_builders import large_png; from stages.library.preparation.normalisation import normalise; "
        "print(normalise(large_png(9_600)).width)"  # Pillow warns from 89 megapixels on
    )
    done = processes.run(sys.executable, "-W", "error", "-c", code)
    assert (done.stdout, done.stderr) == ("9600\n", "")


@settings(max_examples=50)
@given(arrays(np.uint8, st.tuples(SIDES, SIDES) | st.tuples(SIDES, SIDES, st.sampled_from([1, 3]))))
def test_arrays_become_png_of_the_same_pixels(array):
    result = normalise(array)
    expected = array.reshape(*array.shape[:2], -1)
    assert result.format == "png"
    assert result.key == hashlib.sha256(str(expected.shape).encode() + expected.tobytes()).hexdigest()
    np.testing.assert_array_equal(decode(result.encoded), np.broadcast_to(expected, (*array.shape[:2], 3)))
    assert normalise(np.asfortranarray(array)).encoded == result.encoded


def test_sums_of_large_white_images_do_not_overflow():
    white = Image.new("L", (2**25 + 1, 1), 255)
    assert normalisation._values(white, 2**25 + 1) == Values(255, 255, 255 * (2**25 + 1), 2**25 + 1)


def test_images_are_decoded_no_smaller_than_asked():
    encoded = encode(Image.new("RGB", (640, 480), "red"), "JPEG")
    heights = {enough: decode(encoded, enough_px=enough).shape[0] for enough in (1, 60, 61, 120, 121, 241, 10_000)}
    assert heights == {1: 60, 60: 60, 61: 120, 120: 120, 121: 240, 241: 480, 10_000: 480}
    for mode, kind, shape in (("L", "JPEG", (60, 80, 3)), ("RGB", "PNG", (480, 640, 3))):
        assert decode(encode(Image.new(mode, (640, 480)), kind), enough_px=60).shape == shape

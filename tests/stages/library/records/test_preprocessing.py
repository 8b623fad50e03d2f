"""Decoding, resizing and streaming, against Pillow and values worked out by hand."""

import io
import tempfile
from dataclasses import replace

import numpy as np
import pytest
import sharded
import tensorflow as tf
from PIL import Image

from checks.image_builders import encode
from stages.library.records import manifest as manifests
from stages.library.records import preprocessing
from stages.library.records.preprocessing import Preprocessing
from stages.library.training import batches as training_data

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("options", [{}, {"quality": 80}, *({"quality": 80, "subsampling": n} for n in range(3))])
@pytest.mark.parametrize("shape", [(37, 53), (37, 53, 3)])
def test_images_are_decoded_as_pillow_does_and_grey_is_replicated(options, shape):
    pixels = np.asarray(Image.fromarray(RNG.integers(0, 256, (6, 8, *shape[2:]), dtype=np.uint8)).resize(shape[1::-1]))
    encoded = encode(Image.fromarray(pixels), "jpeg" if options else "png", **options)
    decoded = preprocessing.decode(encoded)
    assert decoded.dtype == tf.uint8
    np.testing.assert_array_equal(decoded, Image.open(io.BytesIO(encoded), formats=("JPEG", "PNG")).convert("RGB"))


@pytest.mark.parametrize(
    ("row", "preparation", "expected"),
    [
        # Output centres lie at -0.25, 0.25, 0.75, 1.25 of the input's pixel grid; the border pixel goes on outwards.
        ([0, 100], Preprocessing(4), [0, 25, 75, 100]),
        # A triangle of half-width 2 around 1 and 3: centres 0.5, 1.5, 2.5 weigh 3/4, 3/4, 1/4.
        ([10, 20, 40, 80], Preprocessing(2), [(7.5 + 15 + 10) / 1.75, (5 + 30 + 60) / 1.75]),
        ([10, 20, 40, 80], Preprocessing(4), [10, 20, 40, 80]),
        # Output pixel i shows the input at i * 3 / 6; beyond the last centre its value goes on.
        ([0, 100, 40], Preprocessing(6, resize="bilinear_tf1"), [0, 50, 100, 70, 40, 40]),
        ([10, 20, 40, 80], Preprocessing(2, resize="bilinear_tf1"), [10, 40]),  # single pixels
        ([0, 10, 20, 40, 80, 90], Preprocessing(4, central_crop=0.6), [10, 20, 40, 80]),
    ],
)
def test_resizing_follows_what_is_worked_out_by_hand(row, preparation, expected):
    for pixels, side in ((row, len(row)), ([row, row], len(row))):
        image = np.repeat(np.asarray(pixels, np.float32)[..., None, :, None], side, -3).repeat(3, -1)
        resized = preprocessing.fit(image, preparation).numpy()
        assert resized.dtype == np.float32
        wanted = np.broadcast_to(np.array(expected)[:, None], (len(expected), len(expected), 3))
        np.testing.assert_allclose(resized, np.broadcast_to(wanted, resized.shape), atol=1e-4)


BARS = 10.0, 100.0, 200.0
BAR = [BARS] * 4
GREY = [[shade] * 3 for shade in (0, 25, 75, 100)]  # what 0 and 100 become in four pixels
INNER = [[shade] * 3 for shade in (10, 20, 40, 80)]


def geometry(name, side, crop=1.0, resize="bilinear"):
    return Preprocessing(side, crop, resize, name, BARS)


@pytest.mark.parametrize(
    ("pixels", "preparation", "expected"),
    [
        # The central square of two rows and four columns is columns 1 and 2; enlarged as in the table above.
        ([[10, 20, 40, 80]] * 2, geometry("crop", 2), [[20, 40]] * 2),
        ([[10, 20, 40, 80]] * 2, geometry("crop", 4), [[20, 25, 35, 40]] * 4),
        ([[10, 20, 40, 80]] * 2, geometry("crop", 4, resize="bilinear_tf1"), [[20, 30, 40, 40]] * 4),
        # Half of the shorter side, 4, is 2: rows 1 and 2, columns 2 and 3 of 7.
        ([[0, 0, row, row + 8, 0, 0, 0] for row in (0, 1, 2, 0)], geometry("crop", 2, 0.5), [[1, 9], [2, 10]]),
        # One row of two pixels fills two rows of four; the others are bars.
        ([[0, 100]], geometry("pad", 4), [BAR, GREY, GREY, BAR]),
        ([[0], [100]], geometry("pad", 4), [[BARS, shade, shade, BARS] for shade in GREY]),
        # Half of the longer side, 8, is 4; two rows of that square have the image.
        ([[0, 0, 10, 20, 40, 80, 0, 0]] * 2, geometry("pad", 4, 0.5), [BAR, INNER, INNER, BAR]),
        # A line that would round to nothing keeps one row; of an odd number of bars the lower side has one more.
        ([[50] * 100], geometry("pad", 4), [BAR, [[50] * 3] * 4, BAR, BAR]),
        ([[50] * 100], geometry("crop", 2), [[50, 50]] * 2),
        ([[7]], geometry("crop", 3, 0.01), [[7] * 3] * 3),
        ([[7]], geometry("pad", 3, 0.01), [[7] * 3] * 3),
    ],
)
def test_geometries_follow_what_is_worked_out_by_hand(pixels, preparation, expected):
    image = np.repeat(np.array(pixels, np.uint8)[..., None], 3, -1)
    expected = np.array(expected, np.float64)
    expected = expected if expected.ndim == 3 else np.repeat(expected[..., None], 3, -1)
    for given in (image, np.stack([image, image])):
        fitted = preprocessing.fit(given, preparation)
        assert fitted.dtype == tf.float32
        np.testing.assert_allclose(fitted, np.broadcast_to(expected, fitted.shape), atol=1e-4)


def triangle(x):
    return np.maximum(1 - np.abs(x), 0)


def cubic(x):
    x = np.abs(x)
    far = np.where(x < 2, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2, 0)
    return np.where(x < 1, 1.5 * x**3 - 2.5 * x**2 + 1, far)


def resized_in_numpy(image, size, method):
    """Both axes one after the other, float64."""
    for axis, count in enumerate(size):
        length = image.shape[axis]
        source, target = np.arange(length), np.arange(count)[:, None]
        if method == "bilinear_tf1":
            weights = triangle(source - target * length / count)
        else:
            kernel = cubic if method == "bicubic" else triangle
            weights = kernel((source + 0.5 - (target + 0.5) * length / count) / max(length / count, 1))
        image = np.moveaxis(np.tensordot(weights / weights.sum(1, keepdims=True), image, (1, axis)), 0, axis)
    return np.clip(image, 0, 255)


def resized_by_pillow(image, size, method):
    how = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[method]
    bands = [Image.fromarray(band.astype(np.float32)).resize(size[::-1], how) for band in np.moveaxis(image, -1, 0)]
    return np.clip(np.stack(bands, -1), 0, 255)


def prepared(image, preparation, resize):
    """What `fit` says it does, in Python's integers."""
    side, sides, name = preparation.input_size_px, image.shape[:2], preparation.geometry

    def kept(length):
        return length - 2 * int((length - length * preparation.central_crop) / 2)

    if name == "squash":
        cut = [kept(length) for length in sides]
    else:
        square = kept(min(sides) if name == "crop" else max(sides))
        cut = [min(length, square) for length in sides]
    top, left = ((length - part) // 2 for length, part in zip(sides, cut, strict=True))
    image = image[top : top + cut[0], left : left + cut[1]].astype(np.float64)
    if name != "pad":
        return resize(image, (side, side), preparation.resize)
    rows, columns = (max(1, int(side * part / square + 0.5)) for part in cut)
    result = np.tile(np.array(preparation.bars_rgb), (side, side, 1))
    down, right = (side - rows) // 2, (side - columns) // 2
    result[down : down + rows, right : right + columns] = resize(image, (rows, columns), preparation.resize)
    return result


NARROW = (1, 1), (1, 7), (7, 1), (3, 300), (300, 3), (40, 60), (61, 40), (24, 24), (25, 24), (10, 12), (23, 25)


@pytest.mark.parametrize("size", NARROW)
@pytest.mark.parametrize("method", ["bilinear", "bicubic", "bilinear_tf1"])
@pytest.mark.parametrize("name", ["crop", "squash", "pad"])
def test_an_independent_implementation_and_pillow_give_the_same_pixels(name, method, size):
    image = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
    for fraction in (1.0, 0.875, 0.4):
        preparation = geometry(name, 24, fraction, method)
        fitted = preprocessing.fit(image, preparation)
        assert fitted.shape == (24, 24, 3)
        np.testing.assert_allclose(fitted, prepared(image, preparation, resized_in_numpy), atol=2e-3)
        if method != "bilinear_tf1":
            np.testing.assert_allclose(fitted, prepared(image, preparation, resized_by_pillow), atol=2e-3)
        # What is cut out is fitted as the whole image is.
        part = preprocessing.cut(image, preparation)
        np.testing.assert_array_equal(preprocessing.fit(part, replace(preparation, central_crop=1.0)), fitted)


@pytest.mark.parametrize("fraction", [1.0, 0.875, 0.6])
def test_a_square_is_the_same_in_every_geometry(fraction):
    image = RNG.integers(0, 256, (41, 41, 3), dtype=np.uint8)
    crop, squash, pad = (preprocessing.fit(image, geometry(name, 24, fraction)) for name in ("crop", "squash", "pad"))
    np.testing.assert_array_equal(crop, squash)
    np.testing.assert_array_equal(pad, squash)


@pytest.mark.parametrize("fraction", [0.8, 0.875, 0.3])
@pytest.mark.parametrize("name", ["crop", "squash", "pad"])
def test_the_crop_is_the_same_whether_the_sides_are_known_or_not(name, fraction):
    preparation = geometry(name, 8, fraction)
    traced = tf.function(
        lambda image: (preprocessing.cut(image, preparation), preprocessing.fit(image, preparation)),
        input_signature=[tf.TensorSpec((None, None, 3), tf.uint8)],
    )
    for height in range(1, 61):
        image = RNG.integers(0, 256, (height, 31, 3), dtype=np.uint8)
        part, fitted = traced(image)
        np.testing.assert_array_equal(preprocessing.cut(image, preparation), part)
        np.testing.assert_array_equal(preprocessing.fit(image, preparation), fitted)
        if name == "squash":
            border, other = (int((side - side * fraction) / 2) for side in (height, 31))
            np.testing.assert_array_equal(part, image[border : height - border, other : 31 - other])


@pytest.mark.parametrize(("height", "width"), [(28, 28), (96, 96), (95, 97), (300, 28), (50, 200)])
def test_antialias_counts_where_a_side_shrinks_and_changes_nothing_where_none_does(height, width):
    image = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected = tf.image.resize(image.astype(np.float32), (96, 96), antialias=True)
    np.testing.assert_allclose(preprocessing.fit(image, Preprocessing(96)), expected, atol=1e-3)
    np.testing.assert_allclose(preprocessing.fit(image[None], Preprocessing(96))[0], expected, atol=1e-3)


def test_bicubic_follows_keys_kernel_and_stays_in_range():
    image = np.broadcast_to(np.array([0, 0, 255, 255], np.float32)[None, :, None], (4, 4, 3))
    resized = preprocessing.fit(image, Preprocessing(8, resize="bicubic")).numpy()
    assert 0 <= resized.min() <= resized.max() <= 255
    # Output centre 3 lies at 1.25 of the input grid: Keys' kernel (a = -1/2) at the distances 1.25, 0.25, 0.75, 1.75.
    near, far = lambda d: 1.5 * d**3 - 2.5 * d**2 + 1, lambda d: -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    assert near(0.25) + near(0.75) + far(1.25) + far(1.75) == pytest.approx(1)
    np.testing.assert_allclose(resized[4, 3], 255 * (near(0.75) + far(1.75)), rtol=1e-5)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    records = [sharded.record(np.full((3, 4 + n, 3), n, np.uint8), n % 3, "abc"[n % 3]) for n in range(9)]
    return sharded.write(tmp_path_factory.mktemp("shards"), {"train": [records[:5], [], records[5:]]}), records


def test_records_stream_in_order_over_the_borders_of_shards(shards):
    paths, written = shards
    batches = list(preprocessing.dataset(paths, Preprocessing(8), 4).as_numpy_iterator())
    assert [len(batch["key"]) for batch in batches] == [4, 4, 1]
    keys, labels, images = (np.concatenate([batch[name] for batch in batches]) for name in ("key", "label", "image"))
    assert keys.tolist() == [record.key.encode() for record in written]
    assert labels.tolist() == [record.label for record in written]
    assert images.shape == (9, 8, 8, 3)
    assert images.dtype == np.float32
    np.testing.assert_allclose(images.mean(axis=(1, 2, 3)), np.arange(9), atol=1e-5)


def test_streaming_leaves_the_folder_of_temporary_files_alone(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # AutoGraph would write what it converts
    paths, _ = shards
    list(preprocessing.dataset(paths, Preprocessing(8), 2))
    common = manifests.read(paths[0].parent, ["train"]), Preprocessing(8), 3, 2
    list(training_data.held_out(*common))
    stream = training_data.Stream(*common, training_data.Augmentation(True, 0.1, 0.1, 10.0), 0)
    assert len(list(stream.batches(0, 2))) == 2
    assert list(tmp_path.iterdir()) == []

"""Decoding, resizing and streaming, against Pillow and values worked out by hand."""

import io
import tempfile

import numpy as np
import pytest
import sharded
import tensorflow as tf
from PIL import Image

from stages.library.records import manifest as manifests
from stages.library.records import preprocessing
from stages.library.records.preprocessing import Preprocessing
from stages.library.records.tfrecord import Record
from stages.library.training import batches as training_data
from stages.library.training.augmentation import Augmentation

RNG = np.random.default_rng(0)


def encode(pixels, kind="png", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def test_png_pixels_come_back_exactly():
    pixels = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    decoded = preprocessing.decode(encode(pixels))
    assert decoded.dtype == tf.uint8
    np.testing.assert_array_equal(decoded, pixels)


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_grey_is_replicated(kind):
    pixels = np.full((9, 4), 77, np.uint8)
    np.testing.assert_array_equal(preprocessing.decode(encode(pixels, kind)), np.full((9, 4, 3), 77))


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_jpeg_is_decoded_as_pillow_does(subsampling):
    smooth = Image.fromarray(RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((53, 37))
    encoded = encode(np.asarray(smooth), "jpeg", quality=80, subsampling=subsampling)
    np.testing.assert_array_equal(
        preprocessing.decode(encoded), np.asarray(Image.open(io.BytesIO(encoded), formats=("JPEG", "PNG")))
    )


def test_enlarging_is_bilinear_between_pixel_centres():
    row = np.array([0, 100], np.float32)
    image = np.broadcast_to(row[None, :, None], (2, 2, 3))
    # Output centres lie at -0.25, 0.25, 0.75, 1.25 of the input's pixel grid; the border pixel goes on outwards.
    expected = np.broadcast_to(np.array([0, 25, 75, 100], np.float32)[None, :, None], (4, 4, 3))
    np.testing.assert_allclose(preprocessing.fit(image, Preprocessing(4)), expected, atol=1e-4)


@pytest.mark.parametrize(("height", "width"), [(28, 28), (96, 96), (95, 97), (300, 28), (50, 200)])
def test_antialias_counts_where_a_side_shrinks_and_changes_nothing_where_none_does(height, width):
    image = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected = tf.image.resize(image.astype(np.float32), (96, 96), antialias=True)
    np.testing.assert_allclose(preprocessing.fit(image, Preprocessing(96)), expected, atol=1e-3)
    np.testing.assert_allclose(preprocessing.fit(image[None], Preprocessing(96))[0], expected, atol=1e-3)


def test_shrinking_averages_under_a_triangle():
    row = np.array([10, 20, 40, 80], np.float32)
    image = np.broadcast_to(row[None, :, None], (4, 4, 3))
    # A triangle of half-width 2 around 1 and 3: centres 0.5, 1.5, 2.5 weigh 3/4, 3/4, 1/4.
    left = (0.75 * 10 + 0.75 * 20 + 0.25 * 40) / 1.75
    right = (0.25 * 20 + 0.75 * 40 + 0.75 * 80) / 1.75
    expected = np.broadcast_to(np.array([left, right], np.float32)[None, :, None], (2, 2, 3))
    resized = preprocessing.fit(image, Preprocessing(2))
    assert resized.dtype == tf.float32
    np.testing.assert_allclose(resized, expected, rtol=1e-6)


def test_the_whole_image_is_squashed_to_the_square():
    image = np.zeros((40, 10, 3), np.uint8)
    image[:20] = 200
    resized = preprocessing.fit(image, Preprocessing(20)).numpy()
    assert resized.shape == (20, 20, 3)
    np.testing.assert_allclose(resized[:9], 200, rtol=1e-6)
    np.testing.assert_allclose(resized[11:], 0, atol=1e-4)


def test_resizing_to_its_own_size_changes_nothing():
    image = RNG.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    np.testing.assert_array_equal(preprocessing.fit(image, Preprocessing(6)), image)


def test_tf1s_corners_put_pixel_centres_at_whole_numbers():
    row = np.array([0, 100, 40], np.float32)
    image = np.broadcast_to(row[None, :, None], (3, 3, 3))
    # Output pixel i shows the input at i * 3 / 6; beyond the last centre its value goes on.
    expected = np.broadcast_to(np.array([0, 50, 100, 70, 40, 40], np.float32)[None, :, None], (6, 6, 3))
    resized = preprocessing.fit(image, Preprocessing(6, resize="bilinear_tf1"))
    assert resized.dtype == tf.float32
    np.testing.assert_allclose(resized, expected, atol=1e-4)
    np.testing.assert_allclose(
        preprocessing.fit(np.stack([image, image]), Preprocessing(6, resize="bilinear_tf1")), [expected] * 2, atol=1e-4
    )


def test_tf1s_shrinking_takes_single_pixels():
    row = np.array([10, 20, 40, 80], np.float32)
    image = np.broadcast_to(row[None, :, None], (4, 4, 3))
    expected = np.broadcast_to(np.array([10, 40], np.float32)[None, :, None], (2, 2, 3))
    np.testing.assert_allclose(preprocessing.fit(image, Preprocessing(2, resize="bilinear_tf1")), expected)


def test_bicubic_follows_keys_kernel_and_stays_in_range():
    row = np.array([0, 0, 255, 255], np.float32)
    image = np.broadcast_to(row[None, :, None], (4, 4, 3))
    resized = preprocessing.fit(image, Preprocessing(8, resize="bicubic")).numpy()
    assert resized.min() >= 0
    assert resized.max() <= 255
    # Output centre 3 lies at 1.25 of the input grid: Keys' kernel (a = -1/2) at the distances 1.25, 0.25, 0.75, 1.75.
    near, far = lambda d: 1.5 * d**3 - 2.5 * d**2 + 1, lambda d: -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    assert near(0.25) + near(0.75) + far(1.25) + far(1.75) == pytest.approx(1)
    np.testing.assert_allclose(resized[4, 3], 255 * (near(0.75) + far(1.75)), rtol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 47), (7, 100)])
def test_the_central_crop_is_that_of_tensorflow(height, width):
    image = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    cropped = preprocessing.central_crop(image, 0.875)
    np.testing.assert_array_equal(cropped, tf.image.central_crop(image, 0.875))
    np.testing.assert_array_equal(preprocessing.central_crop(image[None], 0.875)[0], cropped)
    assert cropped.shape == (height - 2 * int(height / 16), width - 2 * int(width / 16), 3)


def test_the_crop_comes_before_the_resizing():
    image = np.zeros((32, 32, 3), np.uint8)
    image[2:30, 2:30] = 99
    np.testing.assert_allclose(preprocessing.fit(image, Preprocessing(16, central_crop=0.875)), 99, rtol=1e-6)
    assert preprocessing.fit(image, Preprocessing(16)).numpy().min() < 3


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    written: list[list[Record]] = []
    number = 0
    for count in (5, 0, 4):
        batch = [
            Record(f"{number + i:064x}", encode(np.full((3, 4 + i, 3), number + i, np.uint8)), "png",
                   3, 4 + i, i % 3, "abc"[i % 3], f"{i}.png")
            for i in range(count)
        ]  # fmt: skip
        written.append(batch)
        number += count
    return sharded.write(folder, {"train": written}), [record for shard in written for record in shard]


def test_records_stream_in_order_over_the_borders_of_shards(shards):
    paths, written = shards
    batches = list(preprocessing.dataset(paths, Preprocessing(8), 4).as_numpy_iterator())
    assert [len(batch["key"]) for batch in batches] == [4, 4, 1]
    keys = [key.decode() for batch in batches for key in batch["key"]]
    labels = [label for batch in batches for label in batch["label"]]
    images = np.concatenate([batch["image"] for batch in batches])
    assert keys == [record.key for record in written]
    assert labels == [record.label for record in written]
    assert images.shape == (9, 8, 8, 3)
    assert images.dtype == np.float32
    np.testing.assert_allclose(images.mean(axis=(1, 2, 3)), np.arange(9), atol=1e-5)


def test_one_record_is_parsed_alike(shards):
    paths, written = shards
    (serialized,) = tf.data.TFRecordDataset(str(paths[0])).take(1)
    parsed = preprocessing.parse(serialized, Preprocessing(8))
    assert parsed["key"].numpy().decode() == written[0].key
    assert parsed["label"] == written[0].label
    np.testing.assert_allclose(parsed["image"], np.zeros((8, 8, 3)), atol=1e-5)


def test_streaming_leaves_the_folder_of_temporary_files_alone(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # AutoGraph would write what it converts
    paths, _ = shards
    list(preprocessing.dataset(paths, Preprocessing(8), 2))
    list(training_data.held_out(manifests.read(paths[0].parent, ["train"]), Preprocessing(8), 3, 2))
    stream = training_data.Stream(
        manifests.read(paths[0].parent, ["train"]), Preprocessing(8), 3, 2, Augmentation(True, 0.1, 0.1, 10.0), 0
    )
    assert len(list(stream.batches(0, 2))) == 2
    assert list(tmp_path.iterdir()) == []

"""Decoding, resizing and streaming, against Pillow and values worked out by hand."""

import io
import tempfile

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


@pytest.mark.parametrize("fraction", [0.8, 0.875, 0.3])
def test_the_crop_is_the_same_whether_the_sides_are_known_or_not(fraction):
    traced = tf.function(
        lambda image: preprocessing.central_crop(image, fraction),
        input_signature=[tf.TensorSpec((None, None, 3), tf.uint8)],
    )
    for height in range(1, 61):
        image = RNG.integers(0, 256, (height, 101, 3), dtype=np.uint8)
        border, other = (int((side - side * fraction) / 2) for side in (height, 101))
        expected = image[border : height - border, other : 101 - other]
        np.testing.assert_array_equal(preprocessing.central_crop(image, fraction), expected)
        np.testing.assert_array_equal(traced(image), expected)


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

import math

import numpy as np
import pytest

from stages.library.training.augmentation import Augmentation, augment, changed


@pytest.fixture(scope="module")
def tf():
    import tensorflow

    return tensorflow


def image(tf, side=6):
    return tf.reshape(tf.range(side * side * 3, dtype=tf.float32), (side, side, 3))


def apply(tf, pixels, flip=1.0, shift=(0.0, 0.0), scale=1.0, angle=0.0):
    return changed(pixels, flip, tf.constant(shift), scale, angle).numpy()


def test_without_limits_nothing_changes_and_nothing_is_computed(tf):
    pixels = image(tf)
    assert augment(pixels, tf.constant([0, 3], tf.int64), Augmentation(False, 0.0, 0.0, 0.0)) is pixels
    # The resampling that is skipped would have changed nothing.
    np.testing.assert_array_equal(apply(tf, pixels), pixels)


def test_each_change_is_what_it_is_called(tf):
    pixels = image(tf).numpy()
    np.testing.assert_allclose(apply(tf, image(tf), flip=-1.0), pixels[:, ::-1], atol=1e-4)
    moved = apply(tf, image(tf), shift=(2.0, 1.0))  # right and down
    np.testing.assert_allclose(moved[1:, 2:], pixels[:-1, :-2], atol=1e-4)
    np.testing.assert_allclose(moved[1:, 0], pixels[:-1, 0], atol=1e-4)  # the border is repeated
    turned = apply(tf, image(tf), angle=math.pi / 2)
    assert any(np.allclose(turned, np.rot90(pixels, quarters), atol=1e-3) for quarters in (1, 3))
    ramp = tf.tile(tf.range(9, dtype=tf.float32)[None, :, None], (9, 1, 1))
    # At a scale of 2, output x shows input 4 + (x - 4) / 2.
    np.testing.assert_allclose(apply(tf, ramp, scale=2.0)[0, :, 0], np.arange(2, 6.5, 0.5), atol=1e-4)


def test_the_seed_decides_and_limits_hold(tf):
    limits = Augmentation(flip=True, shift=0.2, zoom=0.2, rotation_degrees=15.0)
    results = [augment(image(tf), tf.constant([1, number], tf.int64), limits).numpy() for number in (*range(20), 7)]
    np.testing.assert_array_equal(results[7], results.pop())
    assert len({result.tobytes() for result in results}) == 20
    assert all(result.min() >= 0 and result.max() <= 107 for result in results)


def test_half_of_the_images_are_mirrored(tf):
    limits = Augmentation(flip=True, shift=0.0, zoom=0.0, rotation_degrees=0.0)
    ramp = tf.tile(tf.range(4, dtype=tf.float32)[None, :, None], (4, 1, 1))
    mirrored = [augment(ramp, tf.constant([0, number], tf.int64), limits)[0, 0, 0].numpy() > 1 for number in range(200)]
    assert 70 <= sum(mirrored) <= 130

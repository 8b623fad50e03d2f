"""Resizing images of many sizes at once, against closed forms, exact arithmetic and TensorFlow's own op."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.library.extraction import resampling
from stages.library.records import preprocessing
from stages.library.records.preprocessing import Preprocessing


def resized(images, side):
    flat = np.concatenate([image.ravel() for image in images])
    heights, widths = (np.array([image.shape[axis] for image in images], np.int32) for axis in (0, 1))
    return resampling.resize(flat, heights, widths, side).numpy()


def exact(image, side):
    """The same sums in float64, along one axis after the other."""
    values = image.astype(np.float64)
    for axis in (0, 1):
        length = values.shape[axis]
        scale = length / side
        centres = (np.arange(side)[:, None] + 0.5) * scale - 0.5
        weights = np.maximum(1 - np.abs(np.arange(length) - centres) / max(scale, 1), 0)
        matrix = weights / weights.sum(1, keepdims=True)
        values = np.moveaxis(np.tensordot(matrix, values, (1, axis)), 0, axis)
    return values


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(1, 70), st.integers(1, 70)), min_size=1, max_size=4),
    st.integers(1, 40),
    st.integers(0, 100),
)
def test_images_of_any_sizes_are_resized_exactly_and_each_as_if_it_were_alone(sizes, side, seed):
    rng = np.random.default_rng(seed)
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    together = resized(images, side)
    assert together.shape == (len(sizes), side, side, 3)
    assert together.dtype == np.float32
    for image, result in zip(images, together, strict=True):
        np.testing.assert_allclose(result, exact(image, side), atol=2e-3)
        np.testing.assert_array_equal(result, resized([image], side)[0])


@pytest.mark.parametrize("size", [(375, 500), (50, 200), (300, 28), (28, 28), (2, 1500)])
def test_it_is_the_op_that_the_cpu_uses(size):
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    np.testing.assert_allclose(resized([image], 96)[0], preprocessing.fit(image, Preprocessing(96)).numpy(), atol=0.005)

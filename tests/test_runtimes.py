"""Runtimes, against the model called directly; they run on the cores of one process."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from stages.library import runtimes, weights
from stages.library.console import UserError
from stages.library.runtimes import Plan

SIZE_PX = 64
PLAN = Plan(SIZE_PX, batch_size=4, flip=False, precision="float32", xla=False)
IMAGES = np.random.default_rng(1).uniform(0, 255, (4, SIZE_PX, SIZE_PX, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def lite0():
    runtimes.lookup("tensorflow").prepare("float32")
    model, _, _ = weights.build_with_weights("efficientnet_lite0", SIZE_PX, {})
    return model


@pytest.mark.parametrize("flip", [False, True])
def test_tensorflow_gives_the_outputs_of_the_model(lite0, flip):
    compiled = runtimes.lookup("tensorflow").compile(lite0, dataclasses.replace(PLAN, flip=flip), ())
    views = [IMAGES, IMAGES[:, :, ::-1]] if flip else [IMAGES]
    for output, name in zip(compiled.forward(IMAGES), runtimes.TAPPED, strict=True):
        expected = np.mean([lite0(view, training=False)[name] for view in views], axis=0)
        assert output.dtype == np.float32
        np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-4)


def test_a_row_depends_on_its_place_and_itself_alone(lite0):
    forward = runtimes.lookup("tensorflow").compile(lite0, PLAN, ()).forward
    whole = forward(IMAGES)
    for place in range(4):
        others = np.random.default_rng(place).uniform(0, 255, IMAGES.shape).astype(np.float32)
        others[place] = IMAGES[place]
        for output, expected in zip(forward(others), whole, strict=True):
            np.testing.assert_array_equal(output[place], expected[place])


def test_threads_may_call_at_once(lite0):
    compiled = runtimes.lookup("tensorflow").compile(lite0, PLAN, ())
    assert compiled.callers >= 1
    expected = compiled.forward(IMAGES)
    with ThreadPoolExecutor(4) as pool:
        for outputs in pool.map(compiled.forward, [IMAGES] * 12):
            for output, alone in zip(outputs, expected, strict=True):
                np.testing.assert_array_equal(output, alone)


def test_what_needs_a_gpu_says_so(lite0):
    runtime = runtimes.lookup("tensorflow")
    with pytest.raises(UserError, match=r"`extract\.precision` must be float32 without a GPU.*Received: 'float16'"):
        runtime.prepare("float16")
    with pytest.raises(UserError, match=r"`extract\.xla` must be false without a GPU.*Received: true"):
        runtime.compile(lite0, dataclasses.replace(PLAN, xla=True), ())

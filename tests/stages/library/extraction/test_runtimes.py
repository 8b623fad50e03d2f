"""Runtimes, against the model called directly; they run on the cores of one process."""

import dataclasses
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import ROOT

from stages.library.common.console import UserError
from stages.library.extraction import runtime as runtimes
from stages.library.extraction.runtime import Plan
from stages.library.networks import weights

SIZE_PX = 64
PLAN = Plan(SIZE_PX, batch_size=4, flip=False, precision="float32")
IMAGES = np.random.default_rng(1).uniform(0, 255, (4, SIZE_PX, SIZE_PX, 3)).astype(np.float32)
NAMES = ("tensorflow", "openvino")


@pytest.fixture(scope="module")
def lite0():
    runtimes.lookup("tensorflow").prepare("float32")
    model, _, _ = weights.build_with_weights("efficientnet_lite0", SIZE_PX, {})
    return model


@pytest.fixture(scope="module")
def compiled(lite0):
    for name in NAMES:
        runtimes.lookup(name).prepare("float32")
    return {name: runtimes.lookup(name).compile(lite0, PLAN, ()) for name in NAMES}


def assert_same(outputs, expected):
    for output, wanted in zip(outputs, expected, strict=True):
        np.testing.assert_array_equal(output, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_the_outputs_are_those_of_the_model_or_means_over_both_views(lite0, compiled, name, flip):
    one = runtimes.lookup(name).compile(lite0, dataclasses.replace(PLAN, flip=True), ()) if flip else compiled[name]
    views = [lite0(view, training=False) for view in ([IMAGES, IMAGES[:, :, ::-1]] if flip else [IMAGES])]
    for output, kind in zip(one.forward(IMAGES), runtimes.FORWARD_OUTPUTS, strict=True):
        expected = np.mean([view[kind] for view in views], axis=0)
        assert output.dtype == np.float32
        assert np.abs(output - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_parts_of_a_tensor_are_batches_too(compiled, name):
    import tensorflow as tf

    first, second = tf.split(tf.constant(np.concatenate([IMAGES, IMAGES[::-1]])), 2)
    for images, same in ((first, IMAGES), (second, np.ascontiguousarray(IMAGES[::-1]))):
        assert_same(compiled[name].forward(images), compiled[name].forward(same))


@pytest.mark.parametrize("name", NAMES)
def test_a_row_depends_on_its_place_and_itself_alone(compiled, name):
    for place in range(4):
        others = np.random.default_rng(place).uniform(0, 255, IMAGES.shape).astype(np.float32)
        others[place] = IMAGES[place]
        found, expected = ([output[place] for output in compiled[name].forward(images)] for images in (others, IMAGES))
        assert_same(found, expected)


@pytest.mark.parametrize("name", NAMES)
def test_threads_may_call_at_once(compiled, name):
    assert compiled[name].callers >= 1
    batches = [IMAGES[np.roll(np.arange(4), shift)] for shift in range(4)]
    alone = [compiled[name].forward(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for outputs, wanted in zip(pool.map(compiled[name].forward, batches * 4), alone * 4, strict=True):
            assert_same(outputs, wanted)


@pytest.mark.slow
def test_int8_is_near_float32_and_the_same_each_time(lite0, compiled):
    runtime = runtimes.lookup("openvino")
    runtime.prepare("int8")
    plan = dataclasses.replace(PLAN, precision="int8")
    first, second = (runtime.compile(lite0, plan, (image[None] for image in IMAGES)) for _ in range(2))
    quantized = first.forward(IMAGES)
    assert_same(quantized, second.forward(IMAGES))
    for one, exact in zip(quantized, compiled["openvino"].forward(IMAGES), strict=True):
        assert np.abs(one - exact).max() > 0
        assert np.corrcoef(one.ravel(), exact.ravel())[0, 1] > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("flip", [False, True])
def test_the_convolution_of_the_pixels_is_not_quantized(lite0, flip):
    import openvino

    from stages.library.extraction.runtimes import openvino as runtime

    graph = runtimes.frozen_graph(lite0, dataclasses.replace(PLAN, flip=flip), None).graph
    model = openvino.convert_model(graph)
    names = runtime._of_pixels(model)
    assert len(names) == 1 + flip
    convolutions = [op for op in model.get_ordered_ops() if op.get_type_name() == "Convolution"]
    assert convolutions[0].get_friendly_name() in names
    assert len(convolutions) > 20 * len(names)


def test_what_needs_a_gpu_says_so():
    with pytest.raises(UserError, match=r"`extract\.precision` must be float32 without a GPU.*Received: 'float16'"):
        runtimes.lookup("tensorflow").prepare("float16")


@pytest.mark.parametrize(("precision", "package"), [("float32", "openvino"), ("int8", "nncf")])
def test_a_missing_requirement_is_named(monkeypatch, precision, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"{package}.*pip install -r requirements-openvino.txt"):
        runtimes.lookup("openvino").prepare(precision)


@pytest.mark.slow
def test_openvino_and_nncf_report_to_nobody_and_fork_nothing(tmp_path):
    code = """
import os, sys
from stages.library.extraction.runtimes import openvino as runtime
runtime.prepare("int8")
import keras, numpy
from stages.library.extraction.runtime import Plan
image = keras.Input((32, 32, 3))
features = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 3)(keras.layers.Conv2D(8, 3)(image)))
model = keras.Model(image, dict(bottleneck=features))
unasked = "os.fork", "socket.connect"
sys.addaudithook(lambda event, _: event in unasked and os.write(2, event.encode()) and os._exit(3))
runtime.compile(model, Plan(32, 1, False, "int8"), [numpy.zeros((1, 32, 32, 3), numpy.float32)])
print("compiled")
"""
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", "TF_BUILD", "JENKINS_URL")}
    environment = kept | {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["compiled"]), done.stderr
    assert not list(tmp_path.rglob("*telemetry*"))

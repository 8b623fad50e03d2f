"""Backbones: their contract, and their weights against values computed another way."""

import importlib
from dataclasses import replace
from typing import Any

import keras
import keras_layouts
import numpy as np
import pytest
import skimage.data
import tensorflow as tf
from keras_layouts import EACH_FAMILY, KERAS, marked
from PIL import Image
from section import section

from stages.library.common.console import UserError
from stages.library.common.plugins import PLUGINS, members, plugin_names
from stages.library.extraction import extraction
from stages.library.networks import contract as backbones
from stages.library.networks import torch_weights, weights
from stages.library.records.preprocessing import Preprocessing

freed = pytest.fixture(keras_layouts.freed)
# Those of other packages are in test_hub_networks.py, one of each family of Keras in test_keras_backbones.py.
OWN = [name for name in plugin_names(PLUGINS["backbones"]) if not backbones.lookup(name).BACKBONE.packages]
OTHERS = [name for name in OWN if name not in EACH_FAMILY]


@pytest.mark.usefixtures("freed")
@pytest.mark.parametrize("name", marked(OTHERS))
def test_a_backbone_is_what_it_says(name):
    side = backbones.lookup(name).BACKBONE.min_input_px
    with keras_layouts.unfilled():
        model = backbones.lookup(name).build(side)
    assert model.input_shape == (None, side, side, 3)
    keras_layouts.is_what_it_says(name, model)
    if name not in KERAS:
        keras_layouts.bars_scale_to_zero(name, model)


def test_what_defines_a_backbone_is_its_row_or_its_file(monkeypatch):
    lite0: Any
    lite1: Any
    lite0, lite1 = (backbones.lookup(f"efficientnet_lite{number}") for number in (0, 1))
    names = "efficientnet_lite0", "efficientnet_lite1", "inception_v4"
    before = list(map(backbones.definition, names))
    assert len(set(before)) == 3
    edited = replace(lite1, BACKBONE=replace(lite1.BACKBONE, top1=0.5))
    rows = {"efficientnet_lite0": lite0, "efficientnet_lite1": edited}
    monkeypatch.setattr(backbones, "members", lambda folder: rows)
    after = list(map(backbones.definition, names))
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, True]
    assert backbones.code("efficientnet_lite0") == "stages.library.networks.efficientnet_lite"
    assert backbones.code("inception_v4") == "stages.plugins.backbones.inception_v4"
    with pytest.raises(UserError, match=r"there is no backbone 'resnet50'"):
        backbones.lookup("resnet50")


def test_no_name_stands_for_a_file_and_a_row():
    files = {path.stem for path in PLUGINS["backbones"].glob("[!_]*.py")}
    assert files == {"inception_v3", "inception_v4", "inception_resnet_v2"}
    assert not files & set(members(PLUGINS["backbones"]))
    names = [name for path in (PLUGINS["backbones"] / "families").glob("[!_]*.py") for name in members_of(path)]
    assert len(names) == len(set(names)) == len(members(PLUGINS["backbones"]))


def members_of(path):
    return importlib.import_module(f"stages.plugins.backbones.families.{path.stem}").MEMBERS


def test_params_say_how_images_are_prepared_and_null_is_the_published_way():
    published = Preprocessing(299, 0.875, "bilinear_tf1", "squash")
    nothing = {"input_size_px": None, "geometry": None, "central_crop": None, "resize": None}
    v3, lite0 = (backbones.lookup(name).BACKBONE for name in ("inception_v3", "efficientnet_lite0"))

    def prepared(backbone, **changes):
        return extraction.preparation(backbone, section("extract", **nothing | changes))

    assert prepared(v3) == published == extraction.published(v3, 299)
    assert prepared(lite0) == Preprocessing(224, 0.875, "bicubic", "crop", (127.0,) * 3)
    assert prepared(v3, geometry="crop") == replace(published, geometry="crop")
    assert prepared(v3, geometry="pad") == replace(published, geometry="pad", central_crop=1.0)  # the whole image
    assert prepared(v3, geometry="pad", central_crop=0.5) == replace(published, geometry="pad", central_crop=0.5)
    assert prepared(v3, central_crop=1.0, resize="bicubic") == replace(published, central_crop=1.0, resize="bicubic")
    assert prepared(v3, input_size_px=96) == replace(published, input_size_px=96)


# EfficientNet-Lite, forward in NumPy alone from the published state dict.

KERNELS, STRIDES = (3, 3, 5, 3, 5, 5, 3), (1, 2, 2, 2, 1, 2, 1)  # of the seven stages
REPEATS = [(1, 2, 2, 3, 3, 4, 1), (1, 3, 3, 4, 4, 5, 1), (1, 3, 3, 4, 4, 5, 1)]


def convolved(x, kernel, stride, depthwise=False):
    """Correlates x (side, side, in) with a kernel (out, in, k, k), or (channels, 1, k, k) where depthwise."""
    kernel_px, side = kernel.shape[2], -(-len(x) // stride)
    around = max((side - 1) * stride + kernel_px - len(x), 0)  # TensorFlow's SAME: the odd one goes to the end
    x = np.pad(x, ((around // 2, around - around // 2),) * 2 + ((0, 0),))
    total = 0.0
    for i in range(kernel_px):
        for j in range(kernel_px):
            shifted = x[i : i + stride * side : stride, j : j + stride * side : stride][:side, :side]
            total = total + (shifted * kernel[:, 0, i, j] if depthwise else shifted @ kernel[:, :, i, j].T)
    return total


def forward_in_numpy(state, pixels, repeats):
    """Returns the output of the stem, of each block, the pooled features and the logits, float64."""
    state = {name: value.astype(np.float64) for name, value in state.items()}

    def normalized(x, name):
        scale = state[f"{name}.weight"] / np.sqrt(state[f"{name}.running_var"] + 1e-3)
        return (x - state[f"{name}.running_mean"]) * scale + state[f"{name}.bias"]

    def relu6(x):
        return np.clip(x, 0, 6)

    blocks = [
        (kernel_px, 1 if number else stride)
        for kernel_px, stride, count in zip(KERNELS, STRIDES, repeats, strict=True)
        for number in range(count)
    ]
    x = (pixels.astype(np.float64) - 127) / 128
    x = relu6(normalized(convolved(x, state["_conv_stem.weight"], 2), "_bn0"))
    outputs = [x]
    for index, (kernel_px, stride) in enumerate(blocks):
        prefix, y = f"_blocks.{index}.", x
        if index:
            y = relu6(normalized(convolved(y, state[prefix + "_expand_conv.weight"], 1), prefix + "_bn0"))
        kernel = state[prefix + "_depthwise_conv.weight"]
        assert kernel.shape[2] == kernel_px
        y = relu6(normalized(convolved(y, kernel, stride, depthwise=True), prefix + "_bn1"))
        y = normalized(convolved(y, state[prefix + "_project_conv.weight"], 1), prefix + "_bn2")
        x = x + y if x.shape == y.shape else y
        outputs.append(x)
    head = relu6(normalized(convolved(x, state["_conv_head.weight"], 1), "_bn1"))
    bottleneck = head.mean(axis=(0, 1))
    return outputs, bottleneck, state["_fc.weight"] @ bottleneck + state["_fc.bias"]


@pytest.mark.parametrize(("number", "repeats"), list(enumerate(REPEATS)))
def test_lite_agrees_with_numpy_at_every_block(number, repeats):
    """At 50 px, where the sides 25, 13, 7, 4 and 2 make SAME padding lopsided at some strides and even at others."""
    network = backbones.lookup(f"efficientnet_lite{number}")
    model, path = network.build(50), weights.locate(network.BACKBONE, None)
    for variable in model.variables:
        variable.assign(tf.fill(variable.shape, np.nan))  # one that is not loaded shows
    assert network.load_weights(model, path) is model
    pixels = np.asarray(Image.fromarray(skimage.data.chelsea()).resize((50, 50)))
    outputs, bottleneck, logits = forward_in_numpy(torch_weights.read(path), pixels, repeats)
    names = ["stem_relu6"]
    for stage, count in enumerate(repeats, start=1):
        names += [f"stage_{stage}_block_{n}_{'add' if n > 1 else 'project_bn'}" for n in range(1, count + 1)]
    forward_outputs = keras.Model(model.input, [model.get_layer(name).output for name in names])
    for name, ours, expected in zip(names, forward_outputs(pixels[None].astype(np.float32)), outputs, strict=True):
        np.testing.assert_allclose(ours[0], expected, atol=2e-4 * np.abs(expected).max(), err_msg=name)
    result = model(pixels[None].astype(np.float32))
    np.testing.assert_allclose(result["bottleneck"][0], bottleneck, atol=1e-4)
    np.testing.assert_allclose(result["logits"][0], logits, atol=1e-3)

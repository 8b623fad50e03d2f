"""Backbones: their contract, and their weights against values computed another way."""

import keras
import numpy as np
import pytest
import skimage.data
import tensorflow as tf
from PIL import Image

from stages.library.common.plugins import PLUGINS, plugin_names
from stages.library.networks import contract as backbones
from stages.library.networks import torch_weights, weights
from stages.library.networks.efficientnet_lite import EfficientNetLite
from stages.plugins.backbones import efficientnet_lite0


@pytest.mark.parametrize("name", plugin_names(PLUGINS["backbones"]))
def test_a_backbone_is_what_it_says(name):
    module = backbones.lookup(name)
    backbone, model = module.BACKBONE, module.build(module.BACKBONE.min_input_px)
    assert backbone.name == name
    assert model.input_shape == (None, backbone.min_input_px, backbone.min_input_px, 3)
    assert {name: tuple(output.shape) for name, output in model.output.items()} == {
        "bottleneck": (None, backbone.feature_width),
        "logits": (None, backbone.num_logits),
    }
    assert sum(int(np.prod(variable.shape)) for variable in model.trainable_variables) == backbone.num_parameters
    classifier = [layer for layer in model.layers if layer.count_params()][-1]  # what model_size.py leaves out
    assert classifier.count_params() == (backbone.feature_width + 1) * backbone.num_logits
    order = [layer.name for layer in model.layers]
    positions = [order.index(layer) for layer in backbone.blocks.values()]
    assert positions == sorted(positions)
    assert len(set(order)) == len(order)


@pytest.mark.parametrize(("width", "depth", "parameters"), [(1.0, 1.1, 5_416_680), (1.1, 1.2, 6_092_072)])
def test_the_larger_ones_of_the_family_have_the_published_parameters(width, depth, parameters):
    """Lite1 and Lite2, as timm counts them."""
    about = {"weights": {}, "input_size_px": 32, "num_parameters": parameters, "top1": 0.76}
    network = EfficientNetLite(width, depth, name="lite", **about)
    model = network.build(32)
    assert sum(int(np.prod(variable.shape)) for variable in model.trainable_variables) == parameters
    assert set(network.backbone.blocks.values()) <= {layer.name for layer in model.layers}


# EfficientNet-Lite0, forward in NumPy alone from the published state dict.

BLOCKS = [(3, 1)] + [(3, 2), (3, 1)] + [(5, 2), (5, 1)] + [(3, 2), (3, 1), (3, 1)] + [(5, 1)] * 3
BLOCKS += [(5, 2), (5, 1), (5, 1), (5, 1), (3, 1)]


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


def forward_in_numpy(state, pixels):
    """Returns the output of the stem, of each block, the pooled features and the logits, float64."""
    state = {name: value.astype(np.float64) for name, value in state.items()}

    def normalized(x, name):
        scale = state[f"{name}.weight"] / np.sqrt(state[f"{name}.running_var"] + 1e-3)
        return (x - state[f"{name}.running_mean"]) * scale + state[f"{name}.bias"]

    def relu6(x):
        return np.clip(x, 0, 6)

    x = (pixels.astype(np.float64) - 127) / 128
    x = relu6(normalized(convolved(x, state["_conv_stem.weight"], 2), "_bn0"))
    outputs = [x]
    for index, (kernel_px, stride) in enumerate(BLOCKS):
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


def test_lite0_agrees_with_numpy_at_every_block():
    """At 50 px, where the sides 25, 13, 7, 4 and 2 make SAME padding lopsided at some strides and even at others."""
    model, path = efficientnet_lite0.build(50), weights.locate(efficientnet_lite0.BACKBONE, None)
    for variable in model.variables:
        variable.assign(tf.fill(variable.shape, np.nan))  # one that is not loaded shows
    efficientnet_lite0.load_weights(model, path)
    pixels = np.asarray(Image.fromarray(skimage.data.chelsea()).resize((50, 50)))
    outputs, bottleneck, logits = forward_in_numpy(torch_weights.read(path), pixels)
    names = ["stem_relu6"]
    for stage, repeats in enumerate((1, 2, 2, 3, 3, 4, 1), start=1):
        names += [f"stage_{stage}_block_{n}_{'add' if n > 1 else 'project_bn'}" for n in range(1, repeats + 1)]
    forward_outputs = keras.Model(model.input, [model.get_layer(name).output for name in names])
    for name, ours, expected in zip(names, forward_outputs(pixels[None].astype(np.float32)), outputs, strict=True):
        np.testing.assert_allclose(ours[0], expected, atol=2e-4 * np.abs(expected).max(), err_msg=name)
    result = model(pixels[None].astype(np.float32))
    np.testing.assert_allclose(result["bottleneck"][0], bottleneck, atol=1e-4)
    np.testing.assert_allclose(result["logits"][0], logits, atol=1e-3)

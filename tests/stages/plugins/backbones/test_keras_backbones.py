"""The backbones from keras.applications: their scaling, their blocks and their weight files.

The published files can't be had offline, so files of their layout are written here.
"""

import shutil
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, NamedTuple

import h5py
import keras
import numpy as np
import pytest

from stages.library.common.console import UserError
from stages.library.networks import contract as backbones
from stages.library.training import finetuning

IMAGENET = [  # (pixel / 255 - mean) / std, means 0.485 0.456 0.406, standard deviations 0.229 0.224 0.225
    [-2.117904, -2.035714, -1.804444],
    [0.065502, 0.196429, 0.417778],
    [2.248908, 2.428571, 2.640000],
]
TO_ONE = [[-1.0] * 3, [0.0] * 3, [1.0] * 3]  # by us, for theirs take such pixels
NEARLY_TO_ONE = [[-1.0] * 3, [-0.00390625] * 3, [0.9921875] * 3]


class Published(NamedTuple):
    constructor: str
    parameters: int  # with moving statistics, as keras.io has them
    first: str  # convolution
    scaled: list  # what it sees of the pixels 0, 127.5 and 255
    blocks: int


PUBLISHED = {
    "xception": Published("Xception", 22_910_480, "block1_conv1", TO_ONE, 14),
    "efficientnet_v2_b0": Published("EfficientNetV2B0", 7_200_312, "stem_conv", IMAGENET, 8),
    "efficientnet_v2_s": Published("EfficientNetV2S", 21_612_360, "stem_conv", NEARLY_TO_ONE, 8),
    "convnext_tiny": Published("ConvNeXtTiny", 28_589_128, "convnext_tiny_stem", IMAGENET, 19),
    "inception_v3": Published("InceptionV3", 23_851_784, "conv2d", TO_ONE, 12),
    "inception_resnet_v2": Published("InceptionResNetV2", 55_873_736, "conv2d", TO_ONE, 45),
}
OF_CONVNEXT = "depthwise_conv", "layernorm", "pointwise_conv_1", "pointwise_conv_2", "layer_scale"
TRAINED_IN_LAST_BLOCK = {
    "xception": {"block14_sepconv1", "block14_sepconv2"},
    "efficientnet_v2_b0": {"top_conv"},
    "efficientnet_v2_s": {"top_conv"},
    "convnext_tiny": {"convnext_tiny_head_layernorm", *(f"convnext_tiny_stage_3_block_2_{n}" for n in OF_CONVNEXT)},
    "inception_v3": {f"conv2d_{number}" for number in range(85, 94)},
    "inception_resnet_v2": {"conv_7b"},
}
SLOW = "efficientnet_v2_s", "inception_resnet_v2"
NAMES = [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in PUBLISHED]
RNG = np.random.default_rng(0)


def without_seeds(variables):
    return [variable for variable in variables if "seed_generator" not in variable.path]


def random_values(variable):
    """Values under which the signal neither fades nor grows: kernels by their fan-in, scales and variances around 1."""
    if variable.ndim > 1:
        *window, channels, filters = variable.shape
        depthwise = len(window) == 2 and filters == 1
        fan_in = np.prod(window) * (1 if depthwise else channels)
        return RNG.normal(0, np.sqrt(1.5 / fan_in), variable.shape)
    if variable.name in ("gamma", "moving_variance") or "layer_scale" in variable.path:
        return RNG.uniform(0.5, 1.5, variable.shape)
    return RNG.normal(0, 0.1, variable.shape)


def write_legacy_h5(path, network):
    """Writes the layout of Keras 2: all layers in topological order, with names of another process."""
    with h5py.File(path, "w") as file:
        names = [f"{type(layer).__name__.lower()}_{900 - number}" for number, layer in enumerate(network.layers)]
        for name, layer in zip(names, network.layers, strict=True):
            group, variables = file.create_group(name), without_seeds(layer.weights)
            weight_names = [f"{name}/{number}_{variable.name}:0" for number, variable in enumerate(variables)]
            for weight_name, variable in zip(weight_names, variables, strict=True):
                group.create_dataset(weight_name, data=variable.numpy())
            group.attrs["weight_names"] = [weight_name.encode() for weight_name in weight_names]
        file.attrs["layer_names"] = [name.encode() for name in names]
        file.attrs["backend"] = b"tensorflow"
        file.attrs["keras_version"] = b"2.9.0"


@pytest.fixture(scope="module", params=NAMES)
def case(request, tmp_path_factory):
    """The name, a network of keras.applications with random values, its weights as a file, and our network."""
    name, module = request.param, backbones.lookup(request.param)
    side = module.BACKBONE.min_input_px
    constructor = getattr(keras.applications, PUBLISHED[name].constructor)
    network = constructor(weights=None, classifier_activation=None, input_tensor=keras.Input((side, side, 3)))
    for variable in without_seeds(network.variables):
        variable.assign(random_values(variable))
    path = tmp_path_factory.mktemp(name) / f"{name}.h5"
    write_legacy_h5(path, network)
    return name, network, path, module.build(side)


@pytest.mark.slow
def test_the_published_file_is_loaded_into_every_variable(case):
    name, network, path, model = case
    for variable in without_seeds(model.variables):
        variable.assign(np.full(variable.shape, np.nan))
    backbones.lookup(name).load_weights(model, path)
    pixels = RNG.uniform(0, 255, (2, *model.input_shape[1:])).astype(np.float32)
    pixels[1] /= 8
    outputs = model(pixels)
    theirs = keras.Model(network.inputs[0], {"bottleneck": network.layers[-1].input, "logits": network.output})
    expected = theirs(pixels / 127.5 - 1 if PUBLISHED[name].scaled is TO_ONE else pixels)
    for kind in ("bottleneck", "logits"):
        np.testing.assert_allclose(outputs[kind], expected[kind], atol=1e-4 * np.abs(expected[kind]).max())
        assert np.ptp(expected[kind], axis=0).max() > 1e-2 * np.abs(expected[kind]).max()  # the image counts


@pytest.mark.slow
def test_files_without_top_or_with_other_layers_are_rejected(case, tmp_path):
    name, _, path, model = case
    altered = tmp_path / "altered.h5"
    shutil.copy(path, altered)
    load_weights = backbones.lookup(name).load_weights
    message = rf"altered\.h5 must be an \.h5 weight file of {name} with its top: "
    with h5py.File(altered, "a") as file:
        layers = list(file.attrs["layer_names"])
        first = next(index for index, layer in enumerate(layers) if len(file[layer].attrs["weight_names"]))
        top = file[layers[-1]]
        bias = top.attrs["weight_names"][-1]
        del top[bias]
        top.create_dataset(bias, data=np.zeros(1001, np.float32))
    with pytest.raises(UserError, match=message + r".*\(1001,\)"):
        load_weights(model, altered)
    for kept in (layers[:-1], layers[:first] + layers[first + 1 :]):
        with h5py.File(altered, "a") as file:
            file.attrs["layer_names"] = kept
        with pytest.raises(UserError, match=message + "Layer count mismatch"):
            load_weights(model, altered)


def test_parameters_and_scaling_are_as_published(case):
    name, _, _, model = case
    published = PUBLISHED[name]
    assert sum(int(np.prod(variable.shape)) for variable in without_seeds(model.variables)) == published.parameters
    scaling = keras.Model(model.input, model.get_layer(published.first).input)
    pixels = np.array([0, 127.5, 255], np.float32)[:, None, None, None]
    scaled = scaling(np.broadcast_to(pixels, (3, *model.input_shape[1:])))
    np.testing.assert_allclose(scaled[:, 0, 0], published.scaled, atol=1e-6)


def test_fine_tuning_trains_the_last_blocks(case):
    name, _, _, backbone_model = case
    backbone = backbones.lookup(name).BACKBONE
    params: Any = SimpleNamespace(unfrozen_blocks=0, train_batch_norm=False, dropout=0.0, seed=0)
    model = finetuning.build(backbone_model, 3, params)

    def trainable():
        return {layer.name for layer in model.layers if layer.trainable_variables}

    assert len(backbone.blocks) == PUBLISHED[name].blocks
    every = trainable() - {layer.name for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)}
    trained = []
    for params.unfrozen_blocks in range(len(backbone.blocks) + 1):
        for layer in model.layers:
            layer.trainable = True
        finetuning.freeze(model, backbone, params)
        trained.append(trainable())
    assert trained[:2] == [{"classifier"}, {"classifier"} | TRAINED_IN_LAST_BLOCK[name]]
    assert all(fewer < more for fewer, more in pairwise(trained))
    assert trained[-1] == every

"""Networks of keras.applications with random values, and weight files in the layouts that are published."""

import gc
import importlib
import warnings
from typing import Any
from unittest import mock

import h5py
import keras
import numpy as np
import pytest

from stages.library.common.plugins import PLUGINS, plugin_names
from stages.library.networks import contract, keras_applications

KERAS = [name for name in plugin_names(PLUGINS["backbones"]) if "keras" in contract.lookup(name).BACKBONE.weights]
# Building one takes seconds, so the quick tests have one of two kinds: with a top of layers, and of one layer.
QUICK = {"mobilenet_v2", "mobilenet_v3_small"} | set(plugin_names(PLUGINS["backbones"])) - set(KERAS)
# The smallest of each family. Others differ from these by a row of the table alone.
SMALLEST = {"convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_b0", "inception_v3", "mobilenet"}
SMALLEST |= {"mobilenet_v2", "mobilenet_v3_small", "resnet50", "resnet50_v2", "vgg16", "xception"}
LONG_TO_BUILD = {"efficientnet_v2_s", "inception_resnet_v2", "mobilenet_v3_large", "nasnet_mobile"}
EACH_FAMILY = [name for name in KERAS if name in SMALLEST | LONG_TO_BUILD]
RNG = np.random.default_rng(0)


def free():
    """Frees networks: gigabytes, in circles of which Python does not know how large they are."""
    keras.backend.clear_session()
    gc.collect()


def freed():
    """Frees the networks of a test after it."""
    yield
    free()


def unfilled():
    """A context in which networks are built without the random values that others replace: half of the time."""

    def zeros(initializer, shape, dtype=None):
        return np.zeros(shape, np.float32)

    return mock.patch.object(keras.initializers.VarianceScaling, "__call__", zeros)


def marked(names):
    """Returns the names as parameters: slow but for the quick ones, and those that differ by a row alone are rare."""
    slow, rare = [pytest.mark.slow], [pytest.mark.slow, pytest.mark.rare]
    return [pytest.param(name, marks=[] if name in QUICK else slow if name in SMALLEST else rare) for name in names]


def is_what_it_says(name, model):
    """Compares a network, built at its smallest size, with what the backbone of that name says of itself."""
    backbone = contract.lookup(name).BACKBONE
    assert backbone.name == name
    assert {name: tuple(output.shape) for name, output in model.output.items()} == {
        "bottleneck": (None, backbone.feature_width),
        "logits": (None, backbone.num_logits),
    }
    assert sum(int(np.prod(variable.shape)) for variable in model.trainable_variables) == backbone.num_parameters
    pooled = keras.Model(model.input, model.output["bottleneck"])  # without what model_size.py leaves out
    assert model.count_params() - pooled.count_params() == backbone.num_top_parameters
    order = [layer.name for layer in model.layers]
    positions = [order.index(layer) for layer in backbone.blocks.values()]
    assert positions == sorted(positions)
    assert len(set(order)) == len(order)


def bars_scale_to_zero(name, model):
    """The colour of bars is what the network's own scaling takes to zero."""
    scaled = [layer for layer in model.layers if isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization)]
    for layer in scaled:
        if isinstance(layer, keras.layers.Normalization) and layer.input_mean is None:  # a published file has them
            layer.adapt_mean.assign(keras_applications.MEAN)
            layer.adapt_variance.assign(np.square(keras_applications.DEVIATION))
            layer.finalize_state()
    shape = 1, *model.input_shape[1:]
    images = np.broadcast_to(np.array(contract.lookup(name).BACKBONE.mean_rgb, np.float32), shape)
    found = keras.Model(model.input, scaled[-1].output)(images)
    np.testing.assert_allclose(found, np.zeros(found.shape), atol=1e-3)


def constructor_of(name):
    """The name in keras.applications."""
    module: Any = contract.lookup(name)
    return getattr(module, "NETWORK", module).constructor


def smallest(name):
    """The side of the input to build a network with: VGG's top has one size of its own."""
    return 224 if name.startswith("vgg") else contract.lookup(name).BACKBONE.min_input_px


def original(name, path=None, like=None, **options):
    """The network of keras.applications itself.

    Its values are random; with `like` those of a network with its top; with a path as Keras loads the published file,
    if that were it.
    """
    constructor = getattr(keras.applications, constructor_of(name))
    side = smallest(name)
    options |= {"input_tensor": keras.Input((side, side, 3))}
    if options.get("include_top", True):
        options["classifier_activation"] = None
    if path is None:
        with unfilled():
            network = single_input(constructor(weights=None, **options))
        if like is not None:
            for ours, theirs in zip(without_seeds(network.variables), without_seeds(like.variables), strict=False):
                ours.assign(theirs)
            return network
        for variable in without_seeds(network.variables):
            variable.assign(random_values(variable))
        return calibrated(network, preprocessed(name, pixels_of(name)))
    file = mock.patch("keras.src.utils.file_utils.get_file", return_value=str(path))
    with file, unfilled(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the weights are of another input size
        return single_input(constructor(weights="imagenet", **options))


def single_input(network):
    """The network as a function of one array; made with `input_tensor`, it wants a list of one."""
    return keras.Model(network.inputs[0], network.output, name=network.name)


def module_of(name):
    """The module of keras.applications that has a network's `preprocess_input`."""
    return importlib.import_module(getattr(keras.applications, constructor_of(name)).__module__)


def pixels_of(name):
    """Two images as ours take them, float32 of [0, 255], one of them dark."""
    pixels = RNG.uniform(0, 255, (2, smallest(name), smallest(name), 3)).astype(np.float32)
    pixels[1] /= 8
    return pixels


def preprocessed(name, pixels):
    """The same images as the network of keras.applications takes them."""
    return module_of(name).preprocess_input(pixels.copy())


def calibrated(network, inputs):
    """The network with batch normalizations that fit what they see, so that the image counts up to the end."""
    normalizations = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in normalizations:
        layer.momentum = 0.0
    network(inputs, training=True)
    for layer in normalizations:
        layer.moving_variance.assign(np.maximum(layer.moving_variance, 0.05))
    return network


def without_seeds(variables):
    return [variable for variable in variables if "seed_generator" not in variable.path]


def random_values(variable):
    """Values under which the signal neither fades nor grows: kernels by their fan-in, scales and variances around 1."""
    if variable.ndim > 1:
        *window, channels, filters = variable.shape
        depthwise = len(window) == 2 and filters == 1
        fan_in = np.prod(window) * (1 if depthwise else channels)
        return RNG.normal(0, np.sqrt(1.5 / fan_in), variable.shape)
    if variable.name in ("gamma", "moving_variance", "variance") or "layer_scale" in variable.path:
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

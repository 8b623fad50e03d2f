"""The backbones from keras.applications: their scaling, their blocks and their weight files, with top and without.

The published files can't be had offline, so files of their layout are written here, and Keras loads them, too, as it
does the published ones.
"""

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import h5py
import keras
import keras_layouts
import numpy as np
import pytest
from keras_layouts import (
    EACH_FAMILY,
    KERAS,
    marked,
    original,
    pixels_of,
    preprocessed,
    smallest,
    without_seeds,
    write_legacy_h5,
)

from stages.library.common.console import UserError
from stages.library.networks import contract as backbones
from stages.library.training import finetuning

# Parameters with moving statistics, as keras.io has them.
PARAMETERS = {
    "xception": 22_910_480,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "resnet50": 25_636_712,
    "resnet101": 44_707_176,
    "resnet152": 60_419_944,
    "resnet50_v2": 25_613_800,
    "resnet101_v2": 44_675_560,
    "resnet152_v2": 60_380_648,
    "inception_v3": 23_851_784,
    "inception_resnet_v2": 55_873_736,
    "mobilenet": 4_253_864,
    "mobilenet_v2": 3_538_984,
    "densenet121": 8_062_504,
    "densenet169": 14_307_880,
    "densenet201": 20_242_984,
    "nasnet_mobile": 5_326_716,
    "nasnet_large": 88_949_818,
    "efficientnet_b0": 5_330_571,
    "efficientnet_b1": 7_856_239,
    "efficientnet_b2": 9_177_569,
    "efficientnet_b3": 12_320_535,
    "efficientnet_b4": 19_466_823,
    "efficientnet_b5": 30_562_527,
    "efficientnet_b6": 43_265_143,
    "efficientnet_b7": 66_658_687,
    "efficientnet_v2_b0": 7_200_312,
    "efficientnet_v2_s": 21_612_360,
    "convnext_tiny": 28_589_128,
}
BLOCKS = {"xception": 14, "efficientnet_v2_b0": 8, "efficientnet_v2_s": 8, "convnext_tiny": 19, "inception_v3": 12}
BLOCKS |= {"inception_resnet_v2": 45, "resnet50": 17, "vgg16": 13, "densenet121": 59, "mobilenet_v2": 19}
OF_CONVNEXT = "depthwise_conv", "layernorm", "pointwise_conv_1", "pointwise_conv_2", "layer_scale"
TRAINED_IN_LAST_BLOCK = {
    "xception": {"block14_sepconv1", "block14_sepconv2"},
    "efficientnet_v2_b0": {"top_conv"},
    "efficientnet_v2_s": {"top_conv"},
    "convnext_tiny": {"convnext_tiny_head_layernorm", *(f"convnext_tiny_stage_3_block_2_{n}" for n in OF_CONVNEXT)},
    "inception_v3": {f"conv2d_{number}" for number in range(85, 94)},
    "inception_resnet_v2": {"conv_7b"},
    "resnet50": {f"conv5_block3_{number}_conv" for number in (1, 2, 3)},
    "vgg16": {"block5_conv3"},
    "densenet121": {"conv5_block16_1_conv", "conv5_block16_2_conv"},
    "mobilenet_v2": {"Conv_1"},
}


@pytest.fixture(scope="module", params=marked(EACH_FAMILY))
def pair(request):
    """A name, the network of keras.applications with random values, and ours: built once for all that they prove."""
    name = request.param
    network = original(name)
    with keras_layouts.unfilled():
        ours = backbones.lookup(name).build(smallest(name))
    yield name, network, ours
    keras_layouts.free()


def assert_close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())
    assert np.ptp(theirs, axis=0).max() > 1e-2 * np.abs(theirs).max()  # the image counts


def filled(name, model, path):
    """Our network with the weights of a file; what is not loaded is NaN."""
    for variable in without_seeds(model.variables):
        variable.assign(np.full(variable.shape, np.nan if "float" in variable.dtype else 0))
    return backbones.lookup(name).load_weights(model, path)


def inputs_of(name, model, pixels):
    """The images as Keras' network takes them, as our own scaling gives them, which differs by rounding alone.

    Random networks make much of that: one bit of MobileNet's input changes its features by 3e-4 of the largest.
    """
    module: Any = backbones.lookup(name)
    theirs = preprocessed(name, pixels)
    if getattr(module, "NETWORK", module).scaling not in ("to_one", "standardized"):
        return theirs
    ours = keras.Model(model.input, model.get_layer("scaling").output)(pixels)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6)
    return ours


def test_all_networks_of_keras_are_there():
    constructors = {name for name in vars(keras.applications) if name[0].isupper()}
    assert {keras_layouts.constructor_of(name) for name in KERAS} == constructors
    assert set(PARAMETERS) < set(KERAS)


def test_a_backbone_is_what_it_says(pair):
    name, _, model = pair
    side = smallest(name)
    assert model.input_shape == (None, side, side, 3)
    keras_layouts.is_what_it_says(name, model)


def test_files_of_each_layout_give_what_keras_network_gives(pair, tmp_path, capsys):
    name, network, model = pair
    total = sum(int(np.prod(variable.shape)) for variable in without_seeds(network.variables))
    assert total == PARAMETERS.get(name, total)
    write_legacy_h5(tmp_path / "published.h5", network)
    network.save_weights(tmp_path / "w.weights.h5")
    network.save(tmp_path / "w.keras")
    theirs, pixels = original(name, tmp_path / "published.h5"), pixels_of(name)
    first, *others = (
        filled(name, model, tmp_path / file)(pixels) for file in ("published.h5", "w.weights.h5", "w.keras")
    )
    assert_close(first["logits"], theirs(inputs_of(name, model, pixels)))
    assert first["bottleneck"].shape == (2, backbones.lookup(name).BACKBONE.feature_width)
    for other in others:
        for kind in ("bottleneck", "logits"):
            np.testing.assert_array_equal(first[kind], other[kind])
            assert np.isfinite(first[kind]).all()
    assert capsys.readouterr().out == ""


def test_a_file_without_top_gives_the_features_that_keras_pools(pair, tmp_path, capsys):
    name, network, model = pair
    options = {"include_top": False, "pooling": "avg"}
    write_legacy_h5(tmp_path / "notop.h5", original(name, like=network, **options))
    theirs, pixels = original(name, tmp_path / "notop.h5", **options), pixels_of(name)
    features = filled(name, model, tmp_path / "notop.h5")
    assert set(features.output) == {"bottleneck"}
    assert_close(features(pixels)["bottleneck"], theirs(inputs_of(name, model, pixels)))
    about = backbones.lookup(name).BACKBONE.without_top()
    assert about.num_logits == about.num_top_parameters == 0
    assert sum(int(np.prod(variable.shape)) for variable in features.trainable_variables) == about.num_parameters
    assert capsys.readouterr().out == ""


def test_fine_tuning_trains_the_last_blocks(pair):
    name, _, network = pair
    backbone = backbones.lookup(name).BACKBONE
    params: Any = SimpleNamespace(unfrozen_blocks=0, train_batch_norm=False, dropout=0.0, seed=0)
    model = finetuning.build(network, 3, params)

    def trainable():
        return {layer.name for layer in model.layers if layer.trainable_variables}

    assert len(backbone.blocks) == BLOCKS.get(name, len(backbone.blocks)) > 7
    every = trainable() - {layer.name for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)}
    trained = []
    for params.unfrozen_blocks in range(len(backbone.blocks) + 1):
        for layer in model.layers:
            layer.trainable = True
        finetuning.freeze(model, backbone, params)
        trained.append(trainable())
    assert trained[0] == {"classifier"}
    assert trained[1] == {"classifier"} | TRAINED_IN_LAST_BLOCK.get(name, trained[1])
    assert all(fewer < more for fewer, more in pairwise(trained))
    assert trained[-1] == every


def test_the_colour_of_bars_is_what_its_own_scaling_takes_to_zero(pair):
    name, _, model = pair
    keras_layouts.bars_scale_to_zero(name, model)


@pytest.mark.parametrize("pair", ["mobilenet_v2", pytest.param("convnext_tiny", marks=pytest.mark.slow)], indirect=True)
def test_a_network_that_was_trained_on_other_classes_gives_features(pair, tmp_path, capsys):
    name, network, model = pair
    base = original(name, like=network, include_top=False, pooling="avg")
    outer = keras.Sequential([base, keras.layers.Dropout(0.5), keras.layers.Dense(16), keras.layers.Dense(7)])
    outer.compile("adam", "mse")
    outer.optimizer.build(outer.trainable_variables)  # its state is in the file, as after training
    outer.save(tmp_path / "outer.keras")
    pixels = pixels_of(name)
    found = filled(name, model, tmp_path / "outer.keras")
    assert_close(found(pixels)["bottleneck"], base(inputs_of(name, model, pixels), training=False))
    said = capsys.readouterr().out
    assert f"outer.keras: 4 arrays are of another top than that of {name}; its features alone are used" in said


@pytest.mark.parametrize("pair", ["mobilenet_v2", pytest.param("xception", marks=pytest.mark.slow)], indirect=True)
def test_files_with_other_layers_are_rejected(pair, tmp_path):
    name, network, model = pair
    write_legacy_h5(path := tmp_path / "altered.h5", network)
    kinds = rf"altered\.h5 must be a \.h5, \.weights\.h5 or \.keras weight file of {name}, with its top or without: "
    with h5py.File(path, "a") as file:
        layers = list(file.attrs["layer_names"])
        first = next(index for index, layer in enumerate(layers) if len(file[layer].attrs["weight_names"]))
    for kept, reason in ((layers[:first] + layers[first + 1 :], "must have the shape"), (layers[:-9], "it lacks ")):
        with h5py.File(path, "a") as file:
            file.attrs["layer_names"] = kept
        with pytest.raises(UserError, match=kinds + rf".*{reason}"):
            backbones.lookup(name).load_weights(model, path)

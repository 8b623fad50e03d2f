"""The network trained from scratch, layer by layer against the publication, and its variants."""

import math

import keras
import numpy as np
import pytest
from section import section

from stages.library.training import loop as training
from stages.library.training import scratch

AIRBENCH = {"whitening": True, "channels": [6, 8], "kernels_px": [3, 3], "first_stride": 1, "convolutions": 2}
AIRBENCH |= {"batch_norm": True, "activation": "gelu", "pooling": "max", "hidden_units": []}


def test_the_published_network_has_the_published_layers():
    model = scratch.build(10, section("scratch", activation="linear"))
    # 7x7x3x32+32, 3x3x32x64+64, 2x2x64x128+128, 512x1024+1024, 1024x128+128, 128x10+10
    assert model.count_params() == 4736 + 18496 + 32896 + 525312 + 131200 + 1290
    kernels = [tuple(layer.kernel.shape) for layer in model.layers if layer.weights]
    assert kernels == [(7, 7, 3, 32), (3, 3, 32, 64), (2, 2, 64, 128), (512, 1024), (1024, 128), (128, 10)]
    assert [model.get_layer(f"convolution_{number}").output.shape[1] for number in (1, 2, 3)] == [16, 8, 4]
    assert model.get_layer("pool_3").output.shape == (None, 2, 2, 128)
    last = ["flatten", "dropout_1", "dense_1", "dropout_2", "dense_2", "logits"]
    assert [layer.name for layer in model.layers[-6:]] == last
    assert model.get_layer("dropout_1").output.shape == (None, 512)


def test_weights_and_biases_start_from_the_truncated_normal_as_the_seed_says():
    model = scratch.build(10, section("scratch", seed=0))
    for values in (model.get_layer("dense_1").kernel, model.get_layer("dense_1").bias):
        # A normal distribution cut at two standard deviations has 0.88 of its spread.
        assert float(np.std(values)) == pytest.approx(0.05 * 0.8796, rel=0.1)
        assert np.abs(values).max() <= 0.1
    again, other = (scratch.build(10, section("scratch", seed=seed)).get_weights() for seed in (0, 1))
    assert all(map(np.array_equal, model.get_weights(), again))
    assert not any(map(np.array_equal, model.get_weights(), other))
    black, white = (model.predict(np.full((1, 32, 32, 3), value), verbose=0) for value in (0.0, 255.0))
    assert np.abs(white - black).max() > 0.01


@pytest.mark.parametrize("changes", [{}, AIRBENCH, {"input_size_px": 64, "channels": [5], "kernels_px": [3]}])
def test_features_are_the_maps_of_each_block_in_at_most_four_cells_a_side(changes):
    model = scratch.build(3, section("scratch", **changes))
    pixels = np.random.default_rng(0).uniform(0, 255, (2, *model.input_shape[1:])).astype(np.float32)
    names = [layer.name for layer in model.layers if layer.name.startswith("activation_")]
    names = [name for name in names if name != "activation_0"]  # of the whitening
    outputs = keras.Model(model.input, [scratch.features(model), *(model.get_layer(name).output for name in names)])
    found, *maps = outputs.predict(pixels, verbose=0)
    maps = [pixels / 255 - 0.5, *maps]
    start = 0
    for each in maps:
        cells = min(each.shape[1], 4)
        side = -(-each.shape[1] // cells)
        parts = [[each[:, y : y + side, x : x + side].mean(axis=(1, 2)) for x in range(0, each.shape[2], side)]
                 for y in range(0, each.shape[1], side)]  # fmt: skip
        rows = np.moveaxis(np.array(parts), 2, 0).reshape(2, -1)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        np.testing.assert_allclose(found[:, start : start + rows.shape[1]], rows, atol=1e-5)
        start += rows.shape[1]
    assert found.shape[1] == start


def test_without_activation_only_pooling_is_nonlinear():
    pixels = [np.full((1, 32, 32, 3), value, np.float32) for value in (0.0, 100.0, 200.0)]
    bends = {}
    for activation in ("linear", "relu"):
        settings = section("scratch", activation=activation, channels=[4], kernels_px=[1], first_stride=1)
        model = scratch.build(2, settings)
        low, middle, high = (model.predict(image, verbose=0) for image in pixels)  # uniform: pooling does nothing
        bends[activation] = np.abs(middle - (low + high) / 2).max()
    assert bends["linear"] < 1e-5 < 1e-3 < bends["relu"]


def test_batch_norm_stands_between_convolution_and_activation():
    settings = section("scratch", batch_norm=True, kernels_px=[3, 3, 3], first_stride=1, hidden_units=[16])
    model = scratch.build(10, settings)
    order = [layer.name for layer in model.layers]
    for number in (1, 2, 3):
        start = order.index(f"convolution_{number}")
        parts = ["convolution", "pool", "batch_norm", "activation"]
        assert order[start : start + 4] == [f"{part}_{number}" for part in parts]
        assert not model.get_layer(f"convolution_{number}").use_bias  # the normalization would take it away again
    assert model.get_layer("flatten").output.shape == (None, 4 * 4 * 128)
    assert order[-4:] == ["flatten", "dropout_1", "dense_1", "logits"]


def test_a_network_in_the_manner_of_airbench():
    model = scratch.build(10, section("scratch", **AIRBENCH))
    parts = {1: ["convolution", "pool", "batch_norm", "activation"], 2: ["convolution", "batch_norm", "activation"]}
    first, second = parts.values()
    kinds = [*first, *second, *first, *second]
    numbers = [1] * 4 + [2] * 3 + [3] * 4 + [4] * 3
    numbers[8] = 2  # pools are counted by blocks
    blocks = [f"{kind}_{number}" for kind, number in zip(kinds, numbers, strict=True)]
    found = [layer.name for layer in model.layers]
    assert found == ["pixels", "scale", "whitening", "activation_0", *blocks, "flatten", "logits"]
    sides = [model.get_layer(name).output.shape[1] for name in ("whitening", "pool_1", "convolution_3", "pool_2")]
    assert sides == [31, 16, 16, 8]
    assert all(len(model.get_layer(f"batch_norm_{number}").weights) == 3 for number in (1, 2, 3, 4))  # and no scale
    maps = np.random.default_rng(0).random((2, 3, 3, 8), np.float32)
    np.testing.assert_array_equal(model.get_layer("flatten")(maps), maps.max(axis=(1, 2)))
    average = scratch.build(10, section("scratch", **AIRBENCH | {"pooling": "average"}))
    np.testing.assert_allclose(average.get_layer("flatten")(maps), maps.mean(axis=(1, 2)), rtol=1e-6)


@pytest.mark.parametrize("changes", [{}, AIRBENCH, AIRBENCH | {"pooling": "none", "first_stride": 2}])
def test_the_weights_are_counted_as_they_are(changes):
    settings = section("scratch", **changes)
    kernels = [variable for variable in scratch.build(7, settings).variables if training.is_kernel(variable)]
    assert scratch.num_weights(7, settings) == sum(math.prod(kernel.shape) for kernel in kernels)


@pytest.fixture
def coloured():
    """Images of a few colours that go with each other, float32 (30, 16, 16, 3)."""
    dice = np.random.default_rng(0)
    mixed = dice.normal(size=(30, 16, 16, 3)) @ dice.normal(size=(3, 3)) * 20
    mixed[:, :, 1:] += mixed[:, :, :-1]  # and neighbours, too
    return np.float32(mixed + np.array([90, 120, 60]))


def test_whitened_patches_have_no_mean_and_unit_covariance(coloured):
    model = scratch.build(2, section("scratch", **AIRBENCH, input_size_px=16))
    scratch.whiten(model, coloured)
    maps = keras.Model(model.input, model.get_layer("whitening").output).predict(coloured, verbose=0)
    assert maps.shape == (30, 15, 15, 24)
    values = maps.reshape(-1, 24).astype(np.float64)
    np.testing.assert_array_equal(values[:, 12:], -values[:, :12])
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-3)
    # By hand: a variance v on a principal axis becomes v / (v + 5e-4 of the mean variance).
    patches = np.lib.stride_tricks.sliding_window_view(coloured.astype(np.float64), (2, 2), axis=(1, 2))
    variances = np.linalg.eigvalsh(np.cov(patches.reshape(-1, 3, 4).reshape(-1, 12), rowvar=False))
    expected = np.diag(variances / (variances + 5e-4 * variances.mean()))
    np.testing.assert_allclose(np.cov(values[:, :12], rowvar=False), expected, atol=1e-3)
    assert expected.min() < 0.99 < 0.999 < expected.max()  # it is unit covariance but for what is noise


def test_whitening_stays_as_it_is_and_takes_images_of_one_colour(coloured):
    settings = section("scratch", **AIRBENCH, input_size_px=16, optimizer="sgd", weight_decay=0.1, warmup_epochs=0.0)
    model = scratch.build(2, settings)
    scratch.whiten(model, coloured)
    before = {layer.name: layer.get_weights() for layer in model.layers if layer.weights}
    training.compile_trainer(model, 1, settings).train_on_batch(coloured[:4], np.eye(2, dtype=np.float32)[[0, 1, 1, 0]])
    for name, weights in before.items():
        same = all(map(np.array_equal, weights, model.get_layer(name).get_weights()))
        assert same == (name == "whitening")
    scratch.whiten(model, np.full((2, 16, 16, 3), 7.0))
    assert np.isfinite(model.predict(coloured[:2], verbose=0)).all()

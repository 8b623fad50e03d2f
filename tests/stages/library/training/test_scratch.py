"""The network trained from scratch, layer by layer against the publication, and its variants."""

import numpy as np
import pytest
from section import section

from stages.library.training import scratch


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
        parts = ["convolution", "batch_norm", "activation", "pool"]
        assert order[start : start + 4] == [f"{part}_{number}" for part in parts]
        assert not model.get_layer(f"convolution_{number}").use_bias  # the normalization would take it away again
    assert model.get_layer("flatten").output.shape == (None, 4 * 4 * 128)
    assert order[-4:] == ["flatten", "dropout_1", "dense_1", "logits"]

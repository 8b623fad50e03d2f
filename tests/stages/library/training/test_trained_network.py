"""Predictions as they should be, and in training mode, as the published fine-tuning made them."""

import keras
import numpy as np
import pytest
import sharded

from stages.library.records.preprocessing import Preprocessing
from stages.library.training import trained_network
from stages.library.training.finetuning import CLASSIFIER
from stages.library.training.trained_network import Network

SIDE_PX, BATCH = 4, 8
PIXELS = np.random.default_rng(0).integers(0, 256, (20, SIDE_PX, SIDE_PX, 3), np.uint8)


@pytest.fixture
def shard(tmp_path, monkeypatch):
    monkeypatch.setattr(trained_network, "PREDICTION_BATCH", BATCH)
    (path,) = sharded.write(tmp_path, {"test": [[sharded.record(image) for image in PIXELS]]})
    return path


def network(outputs, flip=False):
    """Returns a network whose logits are a function of the pixels."""
    inputs = keras.Input((SIDE_PX, SIDE_PX, 3))
    model = keras.Model(inputs, outputs(inputs))
    return Network("finetuned", ("a", "b", "c"), Preprocessing(SIDE_PX), model, flip)


def after_pooling(layer):
    """Returns a network whose logits are the mean red, green and blue, passed through a layer."""
    return network(lambda pixels: layer(keras.layers.GlobalAveragePooling2D()(pixels)))


GAMMA, BETA = np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.0, -0.5])


def normalized(means, mean, variance):
    return GAMMA * (means - mean) / np.sqrt(variance + 0.001) + BETA


@pytest.mark.parametrize("trainable", [True, False])
def test_in_training_mode_a_batch_is_normalized_by_itself(shard, trainable):
    layer = keras.layers.BatchNormalization(epsilon=0.001, trainable=trainable)
    tested = after_pooling(layer)
    layer.set_weights([GAMMA, BETA, np.full(3, 100.0), np.full(3, 400.0)])  # and moving mean and variance
    means = PIXELS.astype(np.float64).mean(axis=(1, 2))
    parts = [means[start : start + BATCH] for start in (0, 8, 16)]
    expected = np.concatenate([normalized(part, part.mean(axis=0), part.var(axis=0)) for part in parts])
    proper = normalized(means, 100.0, 400.0)
    keys, _, logits = tested.predict_shards([shard])
    np.testing.assert_allclose(logits, proper, atol=1e-3)
    keys_again, _, logits = tested.predict_shards([shard], training_mode=True)
    np.testing.assert_allclose(logits, expected, atol=1e-2)
    assert np.abs(expected - proper).max() > 1
    assert list(keys) == list(keys_again)
    np.testing.assert_allclose(tested.predict_shards([shard])[2], proper, atol=1e-3)  # nothing was learnt from it


def test_in_training_mode_dropout_works_by_its_seed(shard):
    networks = [after_pooling(keras.layers.Dropout(0.5, seed=seed)) for seed in (0, 0, 1)]
    plain = networks[0].predict_shards([shard])[2]
    dropped, again, other = (one.predict_shards([shard], training_mode=True)[2] for one in networks)
    kept = dropped != 0
    assert 15 < kept.sum() < 45
    np.testing.assert_allclose(dropped[kept], 2 * plain[kept], rtol=1e-5)
    np.testing.assert_array_equal(dropped, again)
    assert not np.array_equal(dropped, other)


def test_flipped_predictions_are_means_over_both_views(shard):
    def squared_differences(pixels):
        return keras.ops.square(keras.ops.mean(pixels[:, :, 0] - 2 * pixels[:, :, -1], axis=1))

    left, right = PIXELS.astype(np.float64)[:, :, 0].mean(axis=1), PIXELS.astype(np.float64)[:, :, -1].mean(axis=1)
    one, other = (left - 2 * right) ** 2, (right - 2 * left) ** 2
    np.testing.assert_allclose(network(squared_differences).predict_shards([shard])[2], one, rtol=1e-4)
    flipping = network(squared_differences, flip=True)
    np.testing.assert_allclose(flipping.predict_shards([shard])[2], (one + other) / 2, rtol=1e-4)
    np.testing.assert_allclose(flipping.logits(PIXELS.astype(np.float32)), (one + other) / 2, rtol=1e-4)
    # As in the published evaluation, training mode sees each image once and unmirrored.
    np.testing.assert_allclose(flipping.predict_shards([shard], training_mode=True)[2], one, rtol=1e-4)


def test_features_are_the_same_of_shards_and_of_encoded_images(shard):
    tested = after_pooling(keras.layers.Dense(3, name=CLASSIFIER))
    of_shards = np.empty((len(PIXELS), tested.width), np.float32)
    tested.predict_and_compare([shard], of_shards)
    np.testing.assert_allclose(of_shards, PIXELS.mean(axis=(1, 2)), rtol=1e-4)
    encoded = (sharded.record(image).encoded for image in PIXELS)
    np.testing.assert_allclose(tested.features(encoded), of_shards, rtol=1e-5)

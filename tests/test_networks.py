"""Predictions as they should be, and in training mode, as the published fine-tuning made them."""

import numpy as np
import pytest

from stages.library import networks, pictures, records
from stages.library.networks import Network
from stages.library.preprocessing import Preprocessing

SIDE_PX, BATCH = 4, 8
PIXELS = np.random.default_rng(0).integers(0, 256, (20, SIDE_PX, SIDE_PX, 3), np.uint8)


@pytest.fixture
def shard(tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "PREDICTION_BATCH", BATCH)
    (path,) = records.shard_paths(tmp_path, "test", 1)
    found = [pictures.normalise(pixels) for pixels in PIXELS]
    side = (SIDE_PX, SIDE_PX)
    records.write_shard(
        path, (records.Record(f.key, f.encoded, f.format, *side, 0, "x", f"{i}") for i, f in enumerate(found))
    )
    return path


def network(*layers):
    """Returns a network whose logits are the mean red, green and blue, passed through some layers."""
    import keras

    inputs = keras.Input((SIDE_PX, SIDE_PX, 3))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    for layer in layers:
        x = layer(x)
    return Network("finetuned", ("a", "b", "c"), Preprocessing(SIDE_PX), keras.Model(inputs, x))


def batch_norm(trainable):
    import keras

    layer = keras.layers.BatchNormalization(epsilon=0.001)
    layer.build((None, 3))
    # gamma, beta, moving mean, moving variance
    layer.set_weights([np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.0, -0.5]), np.full(3, 100.0), np.full(3, 400.0)])
    layer.trainable = trainable
    return layer


def normalized(means, mean, variance):
    return np.array([1.0, 2.0, 3.0]) * (means - mean) / np.sqrt(variance + 0.001) + np.array([0.5, 0.0, -0.5])


@pytest.mark.parametrize("trainable", [True, False])
def test_in_training_mode_a_batch_is_normalized_by_itself(shard, trainable):
    tested = network(batch_norm(trainable))
    means = PIXELS.astype(np.float64).mean(axis=(1, 2))
    expected = np.concatenate(
        [
            normalized(part, part.mean(axis=0), part.var(axis=0))
            for part in (means[start : start + BATCH] for start in (0, 8, 16))
        ]
    )
    proper = normalized(means, 100.0, 400.0)
    keys, _, logits = tested.predict_shards([shard])
    np.testing.assert_allclose(logits, proper, atol=1e-3)
    keys_again, _, logits = tested.predict_shards([shard], training_mode=True)
    np.testing.assert_allclose(logits, expected, atol=1e-2)
    assert np.abs(expected - proper).max() > 1
    assert list(keys) == list(keys_again)
    np.testing.assert_allclose(tested.predict_shards([shard])[2], proper, atol=1e-3)  # nothing was learnt from it


def test_in_training_mode_dropout_works_by_its_seed(shard):
    import keras

    def predictions(seed, training_mode):
        tested = network(keras.layers.Dropout(0.5, seed=seed))
        return tested.predict_shards([shard], training_mode=training_mode)[2]

    plain = predictions(0, training_mode=False)
    dropped = predictions(0, training_mode=True)
    kept = dropped != 0
    assert 15 < kept.sum() < 45
    np.testing.assert_allclose(dropped[kept], 2 * plain[kept], rtol=1e-5)
    np.testing.assert_array_equal(dropped, predictions(0, training_mode=True))
    assert not np.array_equal(dropped, predictions(1, training_mode=True))

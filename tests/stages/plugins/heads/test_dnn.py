from dataclasses import replace

import numpy as np
import pytest

from stages.library.common.console import UserError
from stages.library.heads import scaling
from stages.library.heads.contract import Score
from stages.plugins.heads.dnn import head as dnn
from tests.stages.plugins.heads.training import cross_validate, fit, problem, trainer

PARAMS = dnn.Params(
    features="bottleneck", hidden_units=(32, 16), dropout=0.2, learning_rate=0.01, batch_size=32, epochs=5, device="cpu"
)


@pytest.mark.parametrize("hidden_units", [(32, 16), ()])
def test_forward_in_numpy_is_keras_forward(hidden_units):
    import keras

    features, labels = problem()
    head = fit(dnn, (features, labels), replace(PARAMS, hidden_units=hidden_units))
    hidden = [keras.layers.Dense(units, "relu") for units in hidden_units]
    model = keras.Sequential([keras.Input((20,)), *hidden, keras.layers.Dense(4)])
    model.set_weights([tensor for layer in head.layers for tensor in (layer.kernel, layer.bias)])
    expected = model.predict(features.astype(np.float32), verbose=0)
    np.testing.assert_allclose(head.logits(features), expected, atol=1e-4)


def test_weights_are_those_of_keras():
    import keras

    features, labels = problem()
    weights, params = np.random.default_rng(2).uniform(0.1, 5, 300), replace(PARAMS, dropout=0.0, epochs=1)
    one = trainer(dnn, (features, labels), params, weights=weights)
    logits = one.fit({}).logits(features)
    model, order = one._network(), np.random.default_rng(0).permutation(300)
    x = scaling.standardization(features, np.arange(300), weights)(features)
    falling = keras.optimizers.schedules.CosineDecay(0.01, 10)
    model.compile(keras.optimizers.Adam(falling), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x[order], labels[order], 32, sample_weight=weights[order], shuffle=False, verbose=0)
    np.testing.assert_allclose(logits, model.predict(x, verbose=0), atol=1e-4)
    assert np.abs(logits - fit(dnn, (features, labels), params).logits(features)).max() > 0.01


def test_the_curve_has_means_of_losses_as_rows_are_weighted():
    weights, folds = np.random.default_rng(2).uniform(1, 50, 300), np.arange(300) % 3
    one = trainer(dnn, problem(), replace(PARAMS, dropout=0.0, learning_rate=1e-9), folds=folds, weights=weights)
    *_, step = one.path(0)
    _, rows = one.examples.split(0)
    expected = Score.of(step.logits, one.examples.labels[rows], weights[rows])
    np.testing.assert_allclose(step.held_out, expected, rtol=1e-4)
    assert step.training.loss == pytest.approx(expected.loss, rel=0.2)  # of other rows


@pytest.mark.slow
def test_folds_whose_learning_rates_fall_in_other_numbers_of_steps_start_from_the_same_weights():
    data = problem(n=303)
    halves = (np.arange(303) % 3 > 0).astype(int)  # of 101 and 202 examples
    result, other = (cross_validate(dnn, data, PARAMS, folds) for folds in (halves, 1 - halves))
    np.testing.assert_array_equal(result.logits, other.logits)


def test_without_a_gpu_it_is_rejected():
    with pytest.raises(UserError, match=r"`dnn.device` must be cpu where TensorFlow sees no GPU. Received: 'gpu'"):
        fit(dnn, problem(), replace(PARAMS, device="gpu"))

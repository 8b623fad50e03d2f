from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from stages.library.heads import scaling
from stages.library.scoring.probabilities import softmax as probabilities_of
from stages.plugins.heads.softmax import head as softmax
from tests.stages.plugins.heads.training import fit, problem

PARAMS = softmax.Params(
    features="bottleneck", learning_rate=0.1, momentum=0.9, weight_decay=0.0, dropout=0.0, batch_size=32, epochs=8
)


def train(data, classes=4, **changes):
    (layer,) = fit(softmax, data, replace(PARAMS, **changes), classes).layers
    return layer


@pytest.mark.parametrize("heaviest", [1, 5])
def test_reaches_the_optimum_of_regularised_logistic_regression(heaviest):
    features, labels = problem(n=400)
    decay, weights = 0.01, np.random.default_rng(2).uniform(1, heaviest, 400)
    changes = {"weight_decay": decay, "epochs": 200 * heaviest, "batch_size": 400, "learning_rate": 1.0 / heaviest}
    (layer,) = fit(softmax, (features, labels), replace(PARAMS, **changes), weights=weights).layers
    standardized = scaling.standardization(features, np.arange(400), weights, softmax.DEVIATION)(features)
    # scikit-learn minimises C * sum of losses + |W|^2 / 2; here it is the mean of losses + decay * |W|^2 / 2.
    reference = LogisticRegression(C=1 / (decay * len(labels)), tol=1e-8, max_iter=1000)
    reference.fit(standardized, labels, sample_weight=weights)
    expected = reference.predict_proba(standardized)
    np.testing.assert_allclose(probabilities_of(layer(features.astype(np.float32))), expected, atol=2e-3)


def test_one_step_by_hand():
    features, labels = problem(n=8)
    layer = train((features, labels), epochs=1, batch_size=8)
    x = scaling.standardization(features, np.arange(8), np.ones(8), softmax.DEVIATION)(features).astype(np.float64)
    onehot = np.eye(4)[labels]
    kernel, bias = -0.1 * x.T @ (0.25 - onehot) / 8, -0.1 * (0.25 - onehot).mean(axis=0)
    np.testing.assert_allclose(layer(features.astype(np.float32)), x @ kernel + bias, atol=1e-5)


def test_dropout_leaves_every_feature_its_mean_and_shares_weight_between_copies_of_one():
    labels, dropouts = np.arange(400) % 2, (0.0, 0.5)
    sure = labels[:, None] * 2.0 - 1
    # What is dropped is made up for by the rest: the weight of a sure feature, beside which no other one counts.
    plain, dropped = (train((sure.astype(np.float32), labels), 2, dropout=d, epochs=1) for d in dropouts)
    np.testing.assert_allclose(dropped.kernel, plain.kernel, rtol=0.2)
    # One of two equal columns would do; with dropout neither can be relied on, and noise beside them counts less.
    rng = np.random.default_rng(0)
    signal = sure + rng.normal(scale=0.7, size=(400, 1))
    features = np.hstack([signal, signal, rng.normal(size=(400, 60))]).astype(np.float32)
    kernels = [np.abs(train((features, labels), 2, dropout=d, epochs=30).kernel) for d in dropouts]
    shares = [kernel[2:].sum() / kernel[:2].sum() for kernel in kernels]
    assert shares[1] < 0.9 * shares[0]


@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.9])
def test_each_feature_is_dropped_as_often_as_it_is_said_and_independently(dropout):
    kept = softmax._kept(np.random.default_rng(0), (501, 203), dropout).astype(float)
    assert kept.mean() == pytest.approx(1 - dropout, abs=5 * np.sqrt(dropout * (1 - dropout) / kept.size))
    for other in (kept[1:] * kept[:-1], kept[:, 1:] * kept[:, :-1]):
        assert other.mean() == pytest.approx((1 - dropout) ** 2, abs=0.01)

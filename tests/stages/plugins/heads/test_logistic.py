from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from stages.library.common import class_weights
from stages.library.heads import calibration
from stages.library.scoring import metrics
from stages.library.scoring.probabilities import softmax
from stages.plugins.heads.logistic import head as logistic
from stages.plugins.heads.logistic import logistic_solver
from tests.stages.plugins.heads import training
from tests.stages.plugins.heads.training import cross_validate, fit

PARAMS = logistic.Params(
    features="bottleneck", scaling="none", power=1.0, penalties=(1.0,), tolerance=1e-8, max_iterations=1000
)


def problem(n=300, dim=24, noise=2.5):
    """Clusters in columns of different scale."""
    features, labels = training.problem(n, dim, noise=noise, dtype=np.float64)
    return (features * np.random.default_rng(1).uniform(0.3, 3, dim)).astype(np.float32), labels


@pytest.mark.slow
@pytest.mark.parametrize(("n", "dim"), [(300, 24), (60, 90)])
@pytest.mark.parametrize("penalty", [1.0, 100.0])
def test_agrees_with_scikit_learn(n, dim, penalty):
    features, labels = problem(n, dim)
    expected = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=10_000).fit(features.astype(np.float64), labels)
    (layer,) = fit(logistic, (features, labels), PARAMS, penalty=penalty).layers
    np.testing.assert_allclose(layer.kernel, expected.coef_.T, atol=1e-3)
    np.testing.assert_allclose(layer.bias - layer.bias.mean(), expected.intercept_, rtol=5e-3, atol=2e-3)


@pytest.mark.parametrize("setting", ["balanced", {"a": 5.0, "c": 0.25}])
def test_class_and_sample_weights_are_those_of_scikit_learn(setting):
    features, labels = problem()
    labels = np.minimum(labels, np.arange(300) % 7)  # classes of other sizes
    given = np.ones(300) if setting == "balanced" else np.random.default_rng(2).uniform(0.2, 4, 300)
    weights = class_weights.of_images(setting, labels, given, tuple("abcd"))
    by_label = setting if setting == "balanced" else {0: 5.0, 1: 1.0, 2: 0.25, 3: 1.0}
    expected = LogisticRegression(C=0.1, tol=1e-10, max_iter=10_000, class_weight=by_label)
    expected.fit(features.astype(np.float64), labels, sample_weight=given)
    (layer,) = fit(logistic, (features, labels), PARAMS, penalty=10.0, weights=weights).layers
    np.testing.assert_allclose(layer.kernel, expected.coef_.T, atol=1e-3)
    np.testing.assert_allclose(layer.bias - layer.bias.mean(), expected.intercept_, rtol=5e-3, atol=2e-3)


def test_the_path_goes_from_strong_to_weak_until_held_out_loss_has_risen_and_the_lowest_is_chosen():
    data, folds = problem(n=120, dim=60, noise=4), np.arange(120) % 3
    long = replace(PARAMS, penalties=tuple(10.0 ** np.arange(-4, 5)))
    result = cross_validate(logistic, data, long, folds, selected_by="log_loss")
    held_out = {10.0**at: loss for at, series, _, loss in result.curve if series == "held-out"}
    assert list(held_out) == sorted(long.penalties, reverse=True)[: len(held_out)]
    assert len(held_out) < len(long.penalties)
    losses, calibrated = {}, {}
    for penalty in held_out:
        alone = cross_validate(logistic, data, replace(PARAMS, penalties=(penalty,)), folds)
        losses[penalty] = metrics.log_loss(softmax(alone.logits), data[1])  # of folds of the same size
        temperature = np.float32(calibration.fit_temperature(alone.logits, data[1], np.ones(120)))
        calibrated[penalty] = metrics.log_loss(softmax(alone.logits / temperature), data[1])
    assert held_out == pytest.approx(losses, rel=1e-4)
    assert result.best_params["penalty"] == min(calibrated, key=lambda penalty: calibrated[penalty])
    short = cross_validate(logistic, data, replace(long, penalties=tuple(held_out)), folds, selected_by="log_loss")
    assert short.best_params == result.best_params
    np.testing.assert_allclose(short.logits, result.logits, atol=1e-5)


def test_iterations_are_few_where_columns_differ_in_scale():
    """Without the eigenbasis the same search takes more than twice as many."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 2000)
    x = (rng.normal(size=(4, 30))[labels] + rng.normal(size=(2000, 30))) * np.logspace(-1, 1.5, 30)
    x = (x - x.mean(axis=0)).astype(np.float32) @ np.linalg.qr(rng.normal(size=(30, 30)))[0].astype(np.float32)
    plain = logistic_solver.Spectrum(np.full(30, x.var()), np.eye(30, dtype=np.float32))
    bases = logistic_solver.spectrum(x), plain
    searches = [logistic_solver.Search(x, labels, np.ones(2000), 4, basis, 1e-8, 5000) for basis in bases]
    for search in searches:
        search.minimise(1.0)
    assert searches[0].iterations * 2 < searches[1].iterations


def test_separable_rows():
    features, labels = problem(n=100, noise=0.01)
    weak = replace(PARAMS, penalties=(1e-3, 1.0), tolerance=1e-5)
    result = cross_validate(logistic, (features, labels), weak, np.arange(100) % 5, classes=6)
    logits = fit(logistic, (features, labels), weak, classes=6, **result.best_params).logits(features)
    assert np.isfinite([logits, result.logits]).all()
    assert (logits.argmax(axis=1) == labels).all()

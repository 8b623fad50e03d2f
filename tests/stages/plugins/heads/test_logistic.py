from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from stages.library.common import class_weights
from stages.library.heads import calibration
from stages.library.scoring import metrics, selection
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
    given = np.random.default_rng(2).uniform(0.2, 4, 300)
    weights = class_weights.of_images(setting, labels, given, tuple("abcd"))
    by_label = setting if setting == "balanced" else {0: 5.0, 1: 1.0, 2: 0.25, 3: 1.0}
    expected = LogisticRegression(C=0.1, tol=1e-10, max_iter=10_000, class_weight=by_label)
    expected.fit(features.astype(np.float64), labels, sample_weight=given)
    (layer,) = fit(logistic, (features, labels), PARAMS, penalty=10.0, weights=weights).layers
    np.testing.assert_allclose(layer.kernel, expected.coef_.T, atol=1e-3)
    np.testing.assert_allclose(layer.bias - layer.bias.mean(), expected.intercept_, rtol=5e-3, atol=2e-3)


@pytest.mark.parametrize("metric", selection.METRICS)
def test_of_all_penalties_the_best_by_the_metric_is_chosen(metric):
    """By logits of scikit-learn. Balanced accuracy is best where the log loss is four times its lowest."""
    features, labels = problem(n=120, dim=20)
    labels, folds = np.minimum(labels, np.arange(120) % 5), np.arange(120) % 3  # rare classes
    penalties = tuple(10.0 ** np.arange(4, -4, -1))
    result = cross_validate(logistic, (features, labels), replace(PARAMS, penalties=penalties), folds, 4, metric)
    merits, losses = {}, {}
    for penalty in penalties:
        logits = np.empty((120, 4), np.float32)
        for fold in range(3):
            seen = folds != fold
            model = LogisticRegression(C=1 / penalty, tol=1e-9, solver="newton-cholesky")
            model.fit(features[seen].astype(np.float64), labels[seen])
            logits[~seen] = model.decision_function(features[~seen])
        losses[penalty] = metrics.log_loss(softmax(logits), labels)
        if metric == "log_loss":
            logits /= np.float32(calibration.fit_temperature(logits, labels, np.ones(120)))
        merits[penalty] = selection.merit(metric, selection.measure(logits, labels)[metric])
    held_out = {10.0**at: loss for at, series, _, loss in result.curve if series == "held-out"}
    assert held_out == pytest.approx(losses, rel=0.01)
    best = max(penalties, key=lambda penalty: (round(merits[penalty], 9), -losses[penalty]))
    assert result.best_params["penalty"] == pytest.approx(best)
    assert (losses[best] > 4 * min(losses.values())) == (metric == "balanced_accuracy")


def test_iterations_are_few_where_columns_differ_in_scale():
    """Without the eigenbasis the same search takes more than twice as many."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 2000)
    x = (rng.normal(size=(4, 30))[labels] + rng.normal(size=(2000, 30))) * np.logspace(-1, 1.5, 30)
    x = (x - x.mean(axis=0)).astype(np.float32) @ np.linalg.qr(rng.normal(size=(30, 30)))[0].astype(np.float32)
    plain = logistic_solver.Spectrum(np.full(30, x.var()), np.eye(30, dtype=np.float32))
    bases = logistic_solver.spectrum(x), plain
    problems = [(basis.coordinates(x), labels, np.ones(2000), 4, basis.eigenvalues) for basis in bases]
    searches = [logistic_solver.Search(*given, 1e-8, 5000) for given in problems]
    for search in searches:
        search.minimise(1.0)
    assert searches[0].iterations * 2 < searches[1].iterations


@pytest.mark.parametrize(("n", "dim"), [(40, 90), (90, 40)])
def test_the_basis_is_orthonormal_and_holds_the_rows(n, dim):
    x = np.random.default_rng(0).normal(size=(n, dim)).astype(np.float32)
    x -= x.mean(axis=0)
    found = logistic_solver.spectrum(x)
    count = min(n - 1, dim)
    assert found.basis.shape == (dim, count)
    np.testing.assert_allclose(found.basis.T @ found.basis, np.eye(count), atol=1e-4)
    coordinates = found.coordinates(x)
    np.testing.assert_allclose(coordinates @ found.basis.T, x, atol=1e-4)
    np.testing.assert_allclose(coordinates.T @ coordinates / n, np.diag(found.eigenvalues), atol=1e-4)


@pytest.mark.parametrize("scaling", ["none", "standardized"])
def test_folds_with_fewer_rows_than_columns_are_those_of_scikit_learn(scaling):
    features, labels = problem(n=60, dim=90)
    folds = np.arange(60) % 2
    changed = replace(PARAMS, scaling=scaling, penalties=(10.0, 1.0))
    result = cross_validate(logistic, (features, labels), changed, folds)
    for fold in (0, 1):
        seen = folds != fold
        wide = features.astype(np.float64)
        if scaling == "standardized":
            variance = wide[seen].var(axis=0)
            wide /= np.sqrt(variance + 0.01 * variance.mean())
        model = LogisticRegression(C=1 / result.best_params["penalty"], tol=1e-10, max_iter=10_000)
        expected = model.fit(wide[seen], labels[seen]).predict_proba(wide[~seen])
        np.testing.assert_allclose(softmax(result.logits[~seen]), expected, atol=2e-3)


def test_separable_rows():
    features, labels = problem(n=100, noise=0.01)
    weak = replace(PARAMS, penalties=(1e-3, 1.0), tolerance=1e-5)
    result = cross_validate(logistic, (features, labels), weak, np.arange(100) % 5, classes=6)
    logits = fit(logistic, (features, labels), weak, classes=6, **result.best_params).logits(features)
    assert np.isfinite([logits, result.logits]).all()
    assert (logits.argmax(axis=1) == labels).all()

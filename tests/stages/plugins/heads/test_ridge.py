import tracemalloc

import numpy as np
import pytest
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.utils.class_weight import compute_class_weight

from stages.library.common import class_weights
from stages.plugins.heads.ridge import head as ridge
from stages.plugins.heads.ridge import row_solver
from tests.stages.plugins.heads.training import cross_validate, fit, problem

PARAMS = ridge.Params(features="bottleneck", scaling="none", power=1.0, penalties=(0.01, 1.0, 100.0, 1e4))


@pytest.mark.parametrize(("n", "dim"), [(300, 24), (40, 120)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_agrees_with_scikit_learn(n, dim, dtype):
    features, labels = problem(n, dim, dtype=dtype)
    for penalty in (0.1, 10.0):
        head = fit(ridge, (features, labels), PARAMS, penalty=penalty)
        expected = RidgeClassifier(alpha=penalty).fit(features.astype(np.float64), labels)
        scores = head.logits(features) / ridge.LOGITS_PER_SCORE
        np.testing.assert_allclose(scores, expected.decision_function(features.astype(np.float64)), atol=1e-4)


@pytest.mark.parametrize(("n", "dim"), [(300, 24), (40, 120)])
@pytest.mark.parametrize("setting", ["balanced", {"a": 5.0, "c": 0.25}])
def test_class_and_sample_weights_are_those_of_scikit_learn(n, dim, setting):
    features, labels = problem(n, dim, dtype=np.float32)
    labels = np.minimum(labels, np.arange(n) % 7)  # classes of other sizes
    given = np.random.default_rng(2).uniform(0.2, 4, n)
    weights = class_weights.of_images(setting, labels, given, tuple("abcd"))
    by_label = {0: 5.0, 2: 0.25}
    if setting == "balanced":  # by this function's weights: RidgeClassifier itself counts images, whatever they weigh
        by_label = dict(enumerate(compute_class_weight(setting, classes=np.arange(4), y=labels, sample_weight=given)))
    wide = features.astype(np.float64)
    expected = RidgeClassifier(alpha=3, class_weight=by_label).fit(wide, labels, sample_weight=given)
    scores = fit(ridge, (features, labels), PARAMS, penalty=3.0, weights=weights).logits(features)
    np.testing.assert_allclose(scores / ridge.LOGITS_PER_SCORE, expected.decision_function(wide), atol=2e-4)


@pytest.mark.parametrize("dim", [20, 200])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_curve_is_that_of_scikit_learn_and_the_most_accurate_penalty_is_chosen(weighted, dim):
    features, labels = problem(dim=dim)
    folds = np.random.default_rng(1).integers(0, 5, 300)
    weights = np.random.default_rng(2).uniform(0.2, 4, 300) if weighted else np.ones(300)
    result = cross_validate(ridge, (features, labels), PARAMS, folds, weights=weights)
    targets, wide = 2 * np.eye(4)[labels] - 1, features.astype(np.float64)
    points = {(at, series): (accuracy, loss) for at, series, accuracy, loss in result.curve}
    accuracies = {}
    for penalty in PARAMS.penalties:
        scores: dict[str, list] = {"training": [], "held-out": []}
        correct = 0
        for fold in range(5):
            seen = folds != fold
            predicted = Ridge(alpha=penalty).fit(wide[seen], targets[seen], weights[seen]).predict(wide)
            right, squares = predicted.argmax(axis=1) == labels, (predicted - targets) ** 2
            correct += right[~seen].sum()
            for series, rows in (("training", seen), ("held-out", ~seen)):
                pair = (np.average(values[rows], weights=weights[rows]) for values in (right, squares.mean(axis=1)))
                scores[series].append(tuple(pair))
        for series, found in scores.items():
            assert points[np.log10(penalty), series] == pytest.approx(np.mean(found, axis=0), rel=1e-5)
        accuracies[penalty] = correct / 300
    assert accuracies[result.best_params["penalty"]] == max(accuracies.values())


def test_solving_by_rows_holds_the_products_and_as_much_again(monkeypatch):
    monkeypatch.setattr(row_solver, "BLOCK", 64)
    n, rng = 1000, np.random.default_rng(0)
    rows = row_solver.Rows(rng.normal(size=(n, 600)).astype(np.float32), rng.normal(size=(n, 3)), np.ones(n))
    groups = np.split(np.arange(n), 10)
    tracemalloc.start()
    errors = [error[group] for error, group in zip(rows.without(groups, 1.0), groups, strict=True)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.isfinite(errors).all()
    assert peak < 1.5 * 8 * n * n, "beside the products, which were there before"

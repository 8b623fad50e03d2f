from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import Ridge, RidgeClassifier

from stages.library.heads import scaling as feature_scaling
from stages.plugins.heads.ridge import head as ridge
from tests.stages.plugins.heads.training import cross_validate, fit, problem, trainer

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


def test_the_curve_is_that_of_scikit_learn_and_the_most_accurate_penalty_is_chosen():
    features, labels = problem()
    folds = np.random.default_rng(1).integers(0, 5, 300)
    result = cross_validate(ridge, (features, labels), PARAMS, folds)
    targets, wide = 2 * np.eye(4)[labels] - 1, features.astype(np.float64)
    points = {(at, series): (accuracy, loss) for at, series, accuracy, loss in result.curve}
    accuracies = {}
    for penalty in PARAMS.penalties:
        predictions = np.empty_like(labels)
        scores: dict[str, list] = {"training": [], "held-out": []}
        for fold in range(5):
            rows = {"training": folds != fold, "held-out": folds == fold}
            model = Ridge(alpha=penalty).fit(wide[rows["training"]], targets[rows["training"]])
            predicted = model.predict(wide)
            predictions[rows["held-out"]] = predicted.argmax(axis=1)[rows["held-out"]]
            for series, some in rows.items():
                right = predicted.argmax(axis=1)[some] == labels[some]
                scores[series].append((right.mean(), ((predicted - targets)[some] ** 2).mean()))
        for series, found in scores.items():
            assert points[np.log10(penalty), series] == pytest.approx(np.mean(found, axis=0), rel=1e-5)
        accuracies[penalty] = (predictions == labels).mean()
    assert accuracies[result.best_params["penalty"]] == max(accuracies.values())


@pytest.mark.parametrize(("n", "dim"), [(300, 24), (40, 120)])
@pytest.mark.parametrize("scaling", ["none", "standardized", "l2"])
def test_folds_do_not_matter_to_the_fitted_head(n, dim, scaling):
    features, labels = problem(n, dim)
    one, many = (
        trainer(ridge, (features, labels), replace(PARAMS, scaling=scaling), folds=folds).fit({"penalty": 1.0})
        for folds in (np.zeros(n, np.int64), np.arange(n) % 5 - 1)
    )
    np.testing.assert_allclose(one.logits(features), many.logits(features), atol=1e-3)


@pytest.mark.parametrize(("changes", "atol"), [({"scaling": "standardized"}, 1e-3), ({"power": 0.5}, 1e-5)])
def test_a_scaling_is_fitting_on_scaled_features(changes, atol):
    features, labels = problem()
    features = features.astype(np.float32) * np.where(np.arange(20) < 5, 40, 1) - 3
    if "power" in changes:
        scaled = np.sign(features) * np.sqrt(np.abs(features))
    else:
        scaled = feature_scaling.standardization(features, np.arange(len(labels)))(features)
    for penalty in (1.0, 300.0):
        found = fit(ridge, (features, labels), replace(PARAMS, **changes), penalty=penalty).logits(features)
        expected = fit(ridge, (scaled, labels), PARAMS, penalty=penalty).logits(scaled)
        np.testing.assert_allclose(found, expected, atol=atol)
    plain = fit(ridge, (features, labels), PARAMS, penalty=penalty).logits(features)
    assert np.abs(found - plain).max() > 0.01

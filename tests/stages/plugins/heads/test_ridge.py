import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge, RidgeClassifier

from stages.library.heads import scaling as feature_scaling
from stages.plugins.heads.ridge import head as ridge
from stages.plugins.heads.ridge import ridge_solver

PARAMS = ridge.Params(features="bottleneck", scaling="none", power=1.0, penalties=(0.01, 1.0, 100.0, 1e4))


def problem(n=300, dim=24, classes=4, seed=0, dtype=np.float16):
    """Noisy clusters, off-centre as pooled features are."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    features = rng.normal(size=(classes, dim))[labels] + rng.normal(scale=1.5, size=(n, dim)) + 3
    return features.astype(dtype), labels


@pytest.mark.parametrize(("n", "dim"), [(300, 24), (40, 120)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_agrees_with_scikit_learn(n, dim, dtype):
    features, labels = problem(n, dim, dtype=dtype)
    for penalty in (0.1, 10.0):
        head = ridge.fit(features, labels, 4, PARAMS, 0, {"penalty": penalty})
        expected = RidgeClassifier(alpha=penalty).fit(features.astype(np.float64), labels)
        scores = head.logits(features) / ridge.LOGITS_PER_SCORE
        np.testing.assert_allclose(scores, expected.decision_function(features.astype(np.float64)), atol=1e-4)


def test_cross_validation_is_refitting_without_each_fold():
    features, labels = problem()
    folds = np.random.default_rng(1).integers(0, 5, len(labels))
    result = ridge.cross_validate(features, labels, 4, folds, PARAMS, 0)
    targets, wide = 2 * np.eye(4)[labels] - 1, features.astype(np.float64)
    points = {(point.step, point.series): point for point in result.curve}
    accuracies = {}
    for penalty in PARAMS.penalties:
        scores, parts = np.empty_like(targets), []
        for fold in range(5):
            training, held_out = folds != fold, folds == fold
            model = Ridge(alpha=penalty).fit(wide[training], targets[training])
            scores[held_out] = model.predict(wide[held_out])
            for name, rows, scored in (("training", training, training), ("held-out", held_out, held_out)):
                hits = (model.predict(wide[scored]).argmax(axis=1) == labels[scored]).mean()
                parts.append((name, hits, ((model.predict(wide[rows]) - targets[rows]) ** 2).mean()))
        accuracies[penalty] = (scores.argmax(axis=1) == labels).mean()
        for series in ("training", "held-out"):
            point = points[np.log10(penalty), series]
            assert point.accuracy == pytest.approx(np.mean([a for name, a, _ in parts if name == series]))
            assert point.loss == pytest.approx(np.mean([loss for name, _, loss in parts if name == series]), rel=1e-5)
        if penalty == result.best_params["penalty"]:
            np.testing.assert_allclose(result.logits, scores * ridge.LOGITS_PER_SCORE, atol=1e-3)
    assert accuracies[result.best_params["penalty"]] == max(accuracies.values())


@pytest.mark.parametrize(("n", "dim"), [(300, 24), (40, 120)])
@pytest.mark.parametrize("scaling", ["none", "standardized", "l2"])
def test_cross_validation_brings_the_head_that_fit_would(n, dim, scaling):
    features, labels = problem(n, dim)
    params = replace(PARAMS, scaling=scaling)
    result = ridge.cross_validate(features, labels, 4, np.arange(n) % 5, params, 0)
    head = ridge.fit(features, labels, 4, params, 0, result.best_params)
    assert result.head is not None
    np.testing.assert_allclose(result.head.logits(features), head.logits(features), atol=1e-3)


def test_rows_of_no_fold_are_trained_on_and_never_scored():
    features, labels = problem()
    folds = np.where(np.arange(len(labels)) % 10 == 0, 0, -1)
    result = ridge.cross_validate(features, labels, 4, folds, replace(PARAMS, penalties=(100.0,)), 0)
    head = ridge.fit(features[folds < 0], labels[folds < 0], 4, PARAMS, 0, {"penalty": 100.0})
    np.testing.assert_allclose(result.logits[folds == 0], head.logits(features[folds == 0]), atol=1e-3)
    assert np.isnan(result.logits[folds < 0]).all()
    expected = (head.logits(features[folds == 0]).argmax(axis=1) == labels[folds == 0]).mean()
    assert [p.accuracy for p in result.curve if p.series == "held-out"] == [pytest.approx(expected)]


@given(st.integers(0, 1000))
@settings(max_examples=20)
def test_statistics_of_folds_add_up(seed):
    features, labels = problem(n=60, dim=5, seed=seed)
    folds = np.random.default_rng(seed).integers(0, 3, len(labels))
    origin = ridge_solver.origin_of(features)
    by_fold = ridge_solver.fold_statistics(features, labels, 4, folds, origin)
    (whole,) = ridge_solver.fold_statistics(features, labels, 4, np.zeros_like(folds), origin)
    np.testing.assert_allclose(by_fold.sum(axis=0), whole, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(by_fold[:, -1, -1], np.bincount(folds, minlength=len(by_fold)))


def test_equal_accuracy_and_loss_choose_the_larger_penalty():
    accuracy = np.array([[0.9, 0.9, 0.8], [0.7, 0.7, 0.8]])
    loss = np.array([[0.1, 0.1, 0.1], [0.1, 0.1, 0.1]])
    counts = np.array([3, 1])
    assert ridge._choose(accuracy, loss, counts, (1.0, 10.0, 100.0)) == 1
    assert ridge._choose(accuracy, loss + np.array([0, 1, 0]), counts, (1.0, 10.0, 100.0)) == 0


def test_standardized_is_fitting_on_standardized_columns():
    features, labels = problem()
    features[:, :5] *= 40
    standardized = replace(PARAMS, scaling="standardized")
    scaled = feature_scaling.standardization(features, np.arange(len(labels)))(features)
    for penalty in (1.0, 300.0):
        logits = ridge.fit(features, labels, 4, standardized, 0, {"penalty": penalty}).logits(features)
        expected = ridge.fit(scaled, labels, 4, PARAMS, 0, {"penalty": penalty}).logits(scaled)
        np.testing.assert_allclose(logits, expected, atol=1e-3)
    folds = np.arange(len(labels)) % 5
    one = replace(standardized, penalties=(300.0,))
    result = ridge.cross_validate(features, labels, 4, folds, one, 0)
    head = ridge.fit(features[folds != 2], labels[folds != 2], 4, one, 0, {"penalty": 300.0})
    np.testing.assert_allclose(result.logits[folds == 2], head.logits(features[folds == 2]), atol=1e-3)


def test_missing_class_and_constant_column():
    features, labels = problem()
    features[:, 3] = 2
    result = ridge.cross_validate(features, labels, 6, np.arange(len(labels)) % 5, PARAMS, 0)
    logits = ridge.fit(features, labels, 6, PARAMS, 0, result.best_params).logits(features)
    assert np.isfinite(logits).all()
    assert logits.argmax(axis=1).max() < 4


def test_loaded_head_gives_the_same_bits(tmp_path):
    features, labels = problem()
    head = ridge.fit(features, labels, 4, PARAMS, 0, {"penalty": 1.0})
    head.save(tmp_path)
    np.testing.assert_array_equal(ridge.load(tmp_path, features.shape[1], 4).logits(features), head.logits(features))


def test_heads_without_a_network_import_no_tensorflow():
    code = (
        "import sys; from stages.library.heads import contract as heads, trained_head; import stages.train_heads;"
        "[heads.lookup(name) for name in ('ridge', 'logistic', 'softmax', 'dnn', 'xgboost')];"
        "assert not {'tensorflow', 'keras', 'xgboost', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_power_is_that_of_the_features_sign_kept(tmp_path):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 5)).astype(np.float32)
    labels = np.arange(60) % 3
    halved = replace(PARAMS, power=0.5)
    best_params = {"penalty": 1.0}
    head = ridge.fit(features, labels, 3, halved, 0, best_params)
    roots = np.sign(features) * np.sqrt(np.abs(features))
    plain = ridge.fit(roots, labels, 3, PARAMS, 0, best_params)
    np.testing.assert_allclose(head.logits(features), plain.logits(roots), atol=1e-5)
    assert (
        np.abs(head.logits(features) - ridge.fit(features, labels, 3, PARAMS, 0, best_params).logits(features)).max()
        > 0.01
    )
    head.save(tmp_path)
    np.testing.assert_array_equal(ridge.load(tmp_path, features.shape[1], 3).logits(features), head.logits(features))

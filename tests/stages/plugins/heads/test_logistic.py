from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from stages.library.heads import scaling as feature_scaling
from stages.library.scoring import metrics
from stages.library.scoring.probabilities import softmax
from stages.plugins.heads.logistic import head as logistic
from stages.plugins.heads.logistic import logistic_solver

PENALTIES = (0.1, 1.0, 10.0, 100.0)
PARAMS = logistic.Params(
    features="bottleneck", scaling="none", power=1.0, penalties=PENALTIES, tolerance=1e-8, max_iterations=1000
)


def problem(n=300, dim=24, classes=4, seed=0, noise=2.5):
    """Noisy clusters, off-centre as pooled features are, in columns of different scale."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    features = rng.normal(size=(classes, dim))[labels] + rng.normal(scale=noise, size=(n, dim)) + 3
    return (features * rng.uniform(0.3, 3, dim)).astype(np.float32), labels


def objective(x, labels, kernel, bias, penalty):
    logits = x.astype(np.float64) @ kernel + bias
    losses = np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(x)), labels]
    return losses.sum() + penalty / 2 * (kernel**2).sum()


@pytest.mark.parametrize(("n", "dim"), [(300, 24), (60, 90)])
@pytest.mark.parametrize("penalty", [1.0, 100.0])
def test_agrees_with_scikit_learn(n, dim, penalty):
    features, labels = problem(n, dim)
    reference = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=10_000).fit(features.astype(np.float64), labels)
    layer = logistic.fit(features, labels, 4, PARAMS, 0, {"penalty": penalty}).layers[0]
    np.testing.assert_allclose(layer.kernel, reference.coef_.T, atol=1e-3)
    np.testing.assert_allclose(layer.bias - layer.bias.mean(), reference.intercept_, rtol=5e-3, atol=2e-3)
    ours = objective(features, labels, layer.kernel.astype(np.float64), layer.bias, penalty)
    theirs = objective(features, labels, reference.coef_.T, reference.intercept_, penalty)
    assert ours == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize("scaling", ["standardized", "l2"])
def test_a_scaling_is_fitting_on_scaled_features(scaling, tmp_path):
    features, labels = problem()
    head = logistic.fit(features, labels, 4, replace(PARAMS, scaling=scaling, power=0.5), 0, {"penalty": 1.0})
    roots = np.sign(features) * np.sqrt(np.abs(features))
    if scaling == "l2":
        scaled = roots / np.linalg.norm(roots, axis=1, keepdims=True)
    else:
        scaled = feature_scaling.standardization(roots, np.arange(len(roots)))(roots)
    expected = LogisticRegression(C=1, tol=1e-10, max_iter=10_000).fit(scaled, labels).predict_proba(scaled)
    np.testing.assert_allclose(softmax(head.logits(features)), expected, atol=2e-3)
    head.save(tmp_path)
    np.testing.assert_array_equal(logistic.load(tmp_path, features.shape[1], 4).logits(features), head.logits(features))


def test_cross_validation_is_refitting_without_each_fold():
    features, labels = problem()
    folds = np.random.default_rng(1).integers(0, 4, len(labels))
    result = logistic.cross_validate(features, labels, 4, folds, PARAMS, 0)
    losses = {}
    for penalty in PENALTIES:
        logits = np.empty((len(labels), 4), np.float32)
        for fold in range(4):
            training, held_out = folds != fold, folds == fold
            head = logistic.fit(features[training], labels[training], 4, PARAMS, 0, {"penalty": penalty})
            logits[held_out] = head.logits(features[held_out])
        losses[penalty] = metrics.log_loss(softmax(logits), labels)
        if penalty == result.best_params["penalty"]:
            np.testing.assert_allclose(softmax(result.logits), softmax(logits), atol=1e-3)
            point = next(p for p in result.curve if (p.step, p.series) == (np.log10(penalty), "held-out"))
            folds_losses = [metrics.log_loss(softmax(logits[folds == f]), labels[folds == f]) for f in range(4)]
            assert point.loss == pytest.approx(np.mean(folds_losses), rel=1e-4)
    assert result.best_params["penalty"] == min(losses, key=lambda penalty: losses[penalty])
    assert [point.step for point in result.curve[:4]] == [2, 2, 1, 1], "from strong to weak"


def test_the_path_ends_where_held_out_loss_has_risen():
    features, labels = problem(n=120, dim=60, noise=4)
    folds = np.arange(120) % 3
    long = replace(PARAMS, penalties=tuple(10.0 ** np.arange(-4, 5)))
    result = logistic.cross_validate(features, labels, 4, folds, long, 0)
    held_out = [point.loss for point in result.curve if point.series == "held-out"]
    assert len(held_out) < len(long.penalties)
    kept = tuple(10.0**point.step for point in result.curve if point.series == "held-out")
    short = logistic.cross_validate(features, labels, 4, folds, replace(long, penalties=kept), 0)
    assert short.best_params["penalty"] == pytest.approx(result.best_params["penalty"])
    np.testing.assert_allclose(short.logits, result.logits, atol=1e-5)


def test_iterations_are_few_where_columns_differ_in_scale():
    """Without the eigenbasis the same search takes more than twice as many."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 2000)
    x = (rng.normal(size=(4, 30))[labels] + rng.normal(size=(2000, 30))) * np.logspace(-1, 1.5, 30)
    x = (x - x.mean(axis=0)).astype(np.float32) @ np.linalg.qr(rng.normal(size=(30, 30)))[0].astype(np.float32)
    plain = logistic_solver.Spectrum(np.full(30, x.var()), np.eye(30, dtype=np.float32))
    counts = []
    for basis in (logistic_solver.spectrum(x), plain):
        (solution,) = logistic_solver.path(x, labels, 4, [1.0], basis, 1e-8, 5000)
        counts.append(solution.iterations)
    assert counts[0] * 2 < counts[1]


def test_missing_class_constant_column_and_separable_rows():
    features, labels = problem(n=100, noise=0.01)
    features[:, 3] = 2
    folds = np.arange(len(labels)) % 5
    weak = replace(PARAMS, penalties=(1e-3, 1.0), tolerance=1e-5)
    result = logistic.cross_validate(features, labels, 6, folds, weak, 0)
    logits = logistic.fit(features, labels, 6, weak, 0, result.best_params).logits(features)
    assert np.isfinite(logits).all()
    assert np.isfinite(result.logits).all()
    assert (logits.argmax(axis=1) == labels).all()


def test_the_same_arguments_give_the_same_bits():
    features, labels = problem()
    first, second = (logistic.fit(features, labels, 4, PARAMS, seed, {"penalty": 1.0}) for seed in (0, 1))
    np.testing.assert_array_equal(first.layers[0].kernel, second.layers[0].kernel)

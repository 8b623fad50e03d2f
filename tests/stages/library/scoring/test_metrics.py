import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from stages.library.scoring import metrics


def scores_and_labels(seed, n=200, classes=7):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(classes, 0.4), n).astype(np.float32)
    return probabilities, rng.integers(0, classes, n)


@given(st.integers(0, 10_000), st.integers(6, 12))
@settings(max_examples=25)
def test_agree_with_scikit_learn(seed, classes):
    probabilities, labels = scores_and_labels(seed, classes=classes)
    predictions, ids = probabilities.argmax(axis=1), np.arange(classes)
    confusion = metrics.confusion_matrix(labels, predictions, classes)
    np.testing.assert_array_equal(confusion, sklearn.metrics.confusion_matrix(labels, predictions, labels=ids))
    assert metrics.top1_accuracy(probabilities, labels) == sklearn.metrics.accuracy_score(labels, predictions)
    top5 = sklearn.metrics.top_k_accuracy_score(labels, probabilities, k=5, labels=ids)
    assert metrics.topk_accuracy(probabilities, labels) == pytest.approx(top5)
    f1 = sklearn.metrics.f1_score(labels, predictions, average="macro", zero_division=0)
    assert metrics.macro_f1(confusion) == pytest.approx(f1)
    balanced = sklearn.metrics.balanced_accuracy_score(labels, predictions)
    assert metrics.balanced_accuracy(confusion) == pytest.approx(balanced)
    floored = np.maximum(probabilities, np.finfo(np.float32).eps).astype(np.float64)
    expected = -np.log(floored[np.arange(len(labels)), labels]).mean()
    assert metrics.log_loss(probabilities, labels) == pytest.approx(expected)


def binned_error(probabilities, labels, bins):
    """The definition of the expected calibration error, bin by bin."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    error = 0.0
    for index in range(bins):
        inside = (confidence > index / bins) & (confidence <= (index + 1) / bins)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return error


@given(st.integers(0, 10_000), st.integers(2, 12), st.integers(2, 30))
@settings(max_examples=25)
def test_losses_agree_with_scikit_learn_and_the_definition(seed, classes, bins):
    probabilities, labels = scores_and_labels(seed, n=100, classes=classes)
    exact = probabilities.astype(np.float64) + 1e-3
    exact /= exact.sum(axis=1, keepdims=True)
    expected = sklearn.metrics.log_loss(labels, exact, labels=np.arange(classes))
    assert metrics.log_loss(exact, labels) == pytest.approx(expected)
    assert metrics.expected_calibration_error(exact, labels, bins) == pytest.approx(binned_error(exact, labels, bins))
    ranks = (exact > exact[np.arange(100), labels][:, None]).sum(axis=1)
    for k in range(1, classes + 1):
        assert metrics.topk_accuracy(exact, labels, k) == pytest.approx(np.mean(ranks < k))


def test_confidences_of_0_and_1_and_at_edges_belong_to_the_bins_that_the_table_names():
    probabilities = np.array([[0.25, 0.25, 0.25, 0.25], [0.5, 0.3, 0.2, 0], [1, 0, 0, 0], [0.75, 0.25, 0, 0]])
    table = metrics.reliability(probabilities, np.zeros(4, np.int64), 4)
    np.testing.assert_array_equal(table.count, [1, 1, 1, 1])
    np.testing.assert_array_equal(table.lower, [0, 0.25, 0.5, 0.75])
    np.testing.assert_array_equal(table.upper, [0.25, 0.5, 0.75, 1])
    nothing = metrics.reliability(np.zeros((2, 3)), np.array([0, 1]), 2)
    np.testing.assert_array_equal([nothing.count, nothing.accuracy, nothing.confidence], [[2, 0], [0.5, 0], [0, 0]])


def test_log_loss_of_float32_probabilities_is_computed_in_double():
    probabilities = np.array([[0.1, 0.9], [0.7, 0.3]], np.float32)
    exact = -(np.log(float(np.float32(0.9))) + np.log(float(np.float32(0.7)))) / 2
    assert metrics.log_loss(probabilities, np.array([1, 0])) == pytest.approx(exact, rel=1e-14)


def test_a_confidence_that_rounding_took_above_one_is_in_the_last_bin():
    above = np.nextafter(np.float32(1), np.float32(2))
    table = metrics.reliability(np.array([[above, 0], [0.95, 0.05]], np.float32), np.array([0, 1]), 10)
    assert table.count.tolist() == [0] * 9 + [2]
    assert table.confidence[9] == pytest.approx((float(above) + float(np.float32(0.95))) / 2, rel=1e-14)


def test_log_loss_of_a_sure_mistake_is_finite():
    assert metrics.log_loss(np.array([[0.0, 1.0]]), np.array([0])) == pytest.approx(-np.log(2**-23))


def test_ties_go_to_the_lowest_class():
    scores = np.ones((7, 7))
    labels = np.arange(7)
    assert metrics.top1_accuracy(scores, labels) == pytest.approx(1 / 7)
    assert metrics.topk_accuracy(scores, labels) == pytest.approx(5 / 7)


def test_top5_of_few_classes_is_one():
    assert metrics.topk_accuracy(np.random.default_rng(0).random((9, 4)), np.arange(9) % 4) == 1.0


def test_classes_without_examples_are_left_out():
    # Class 2 has no example but one prediction: it counts in F1, not in the mean of recalls; class 3 in neither.
    confusion = metrics.confusion_matrix(np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1]), 4)
    np.testing.assert_array_equal(metrics.recall(confusion), [0.5, 1, np.nan, np.nan])
    assert metrics.balanced_accuracy(confusion) == 0.75
    assert metrics.macro_f1(confusion) == pytest.approx((2 / 3 + 1 + 0) / 3)


def test_calibration_error_by_hand():
    # Two bins: confidences 0.4 (right) and 0.5 (wrong) in (0, 0.5]; 0.9 (right) and 1.0 (wrong) in (0.5, 1].
    probabilities = np.array([[0.4, 0.3, 0.3], [0.5, 0.25, 0.25], [0.05, 0.9, 0.05], [0, 0, 1]])
    labels = np.array([0, 1, 1, 0])
    table = metrics.reliability(probabilities, labels, 2)
    np.testing.assert_array_equal(table.count, [2, 2])
    np.testing.assert_allclose(table.confidence, [0.45, 0.95])
    np.testing.assert_allclose(table.accuracy, [0.5, 0.5])
    error = metrics.expected_calibration_error(probabilities, labels, 2)
    assert error == pytest.approx(0.5 * 0.05 + 0.5 * 0.45)


def test_calibrated_predictions_have_little_calibration_error():
    probabilities, _ = scores_and_labels(0, n=50_000)
    draws = np.random.default_rng(1).random((len(probabilities), 1))
    labels = (probabilities.cumsum(axis=1) < draws).sum(axis=1).clip(0, 6)
    assert metrics.expected_calibration_error(probabilities, labels, 15) < 0.01


@pytest.mark.parametrize("accuracy", [0.5, 0.9])
def test_bootstrap_interval_has_2_5_percent_on_each_side(accuracy):
    n = 100_000
    interval = metrics.bootstrap_interval(np.arange(n) < n * accuracy, 1_000_000, 0)
    np.testing.assert_allclose(np.array(interval) * n, binom.ppf([0.025, 0.975], n, accuracy), atol=3)
    assert interval != metrics.bootstrap_interval(np.arange(n) < n * accuracy, 1_000_000, 1)


def test_bootstrap_interval_is_that_of_resampled_rows():
    rng = np.random.default_rng(0)
    correct = rng.random(300) < 0.9
    resampled = rng.choice(correct, (20_000, 300)).mean(axis=1)
    interval = metrics.bootstrap_interval(correct, 20_000, 0)
    np.testing.assert_allclose(interval, np.percentile(resampled, [2.5, 97.5]), atol=1.01 / 300)
    assert interval == metrics.bootstrap_interval(correct, 20_000, 0)
    assert metrics.bootstrap_interval(np.ones(5, bool), 100, 0) == (1, 1)

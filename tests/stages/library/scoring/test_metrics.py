import itertools

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from stages.library.scoring import metrics


def binned_error(probabilities, labels, bins):
    """The definition of the expected calibration error, bin by bin."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    edges = np.arange(bins + 1) / bins
    insides = [(confidence > low) & (confidence <= high) for low, high in itertools.pairwise(edges)]
    return sum(abs(right[inside].sum() - confidence[inside].sum()) for inside in insides) / len(labels)


@given(st.integers(0, 10_000), st.integers(2, 12), st.integers(2, 30))
@settings(max_examples=50)
def test_agree_with_scikit_learn_and_the_definitions(seed, classes, bins):
    rng = np.random.default_rng(seed)
    probabilities, labels = rng.dirichlet(np.full(classes, 0.4), 200) + 1e-3, rng.integers(0, classes, 200)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    predictions, ids = probabilities.argmax(axis=1), np.arange(classes)
    confusion = metrics.confusion_matrix(labels, predictions, classes)
    np.testing.assert_array_equal(confusion, sklearn.metrics.confusion_matrix(labels, predictions, labels=ids))
    f1 = sklearn.metrics.f1_score(labels, predictions, average="macro", zero_division=0)
    for found, expected in (
        (metrics.top1_accuracy(probabilities, labels), sklearn.metrics.accuracy_score(labels, predictions)),
        (metrics.macro_f1(confusion), f1),
        (metrics.balanced_accuracy(confusion), sklearn.metrics.balanced_accuracy_score(labels, predictions)),
        (metrics.log_loss(probabilities, labels), sklearn.metrics.log_loss(labels, probabilities, labels=ids)),
        (metrics.expected_calibration_error(probabilities, labels, bins), binned_error(probabilities, labels, bins)),
    ):
        assert found == pytest.approx(expected)
    ranks = (probabilities > probabilities[np.arange(200), labels][:, None]).sum(axis=1)
    for k in range(1, classes + 1):
        assert metrics.topk_accuracy(probabilities, labels, k) == pytest.approx(np.mean(ranks < k))


def test_confidences_of_0_and_1_and_at_edges_belong_to_the_bin_below():
    probabilities = np.array([[0.25, 0.25, 0.25, 0.25], [0.5, 0.3, 0.2, 0], [1, 0, 0, 0], [0.75, 0.25, 0, 0]])
    table = metrics.reliability(probabilities, np.array([0, 1, 2, 0]), 4)
    np.testing.assert_array_equal([table.count, table.accuracy], [[1, 1, 1, 1], [1, 0, 1, 0]])
    np.testing.assert_array_equal(table.confidence, [0.25, 0.5, 0.75, 1])
    nothing = metrics.reliability(np.zeros((2, 3)), np.array([0, 1]), 2)
    np.testing.assert_array_equal([nothing.count, nothing.accuracy, nothing.confidence], [[2, 0], [0.5, 0], [0, 0]])
    above = np.nextafter(np.float32(1), np.float32(2))  # rounding took it there
    table = metrics.reliability(np.array([[above, 0], [0.95, 0.05]], np.float32), np.array([0, 1]), 10)
    assert table.count.tolist() == [0] * 9 + [2]
    assert table.confidence[9] == pytest.approx((float(above) + float(np.float32(0.95))) / 2, rel=1e-14)


def test_log_loss_of_float32_is_computed_in_double_and_that_of_a_sure_mistake_is_finite():
    probabilities = np.array([[0.1, 0.9], [0.7, 0.3]], np.float32)
    exact = -(np.log(float(np.float32(0.9))) + np.log(float(np.float32(0.7)))) / 2
    assert metrics.log_loss(probabilities, np.array([1, 0])) == pytest.approx(exact, rel=1e-14)
    assert metrics.log_loss(np.array([[0.0, 1.0]]), np.array([0])) == pytest.approx(-np.log(2**-23))


def test_ties_go_to_the_lowest_class_few_classes_are_all_in_the_top_5_and_those_without_examples_left_out():
    scores, labels = np.ones((7, 7)), np.arange(7)
    assert metrics.top1_accuracy(scores, labels) == pytest.approx(1 / 7)
    assert metrics.topk_accuracy(scores, labels) == pytest.approx(5 / 7)
    assert metrics.topk_accuracy(np.random.default_rng(0).random((9, 4)), np.arange(9) % 4) == 1.0
    # Class 2 has no example but one prediction: it counts in F1, not in the mean of recalls; class 3 in neither.
    confusion = metrics.confusion_matrix(np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1]), 4)
    np.testing.assert_array_equal(metrics.recall(confusion), [0.5, 1, np.nan, np.nan])
    assert metrics.balanced_accuracy(confusion) == 0.75
    assert metrics.macro_f1(confusion) == pytest.approx((2 / 3 + 1 + 0) / 3)


@pytest.mark.parametrize("accuracy", [0.5, 0.9])
def test_bootstrap_interval_has_2_5_percent_on_each_side(accuracy):
    n = 100_000
    correct = np.arange(n) < n * accuracy
    interval = metrics.bootstrap_interval(correct, 1_000_000, 0)
    np.testing.assert_allclose(np.array(interval) * n, binom.ppf([0.025, 0.975], n, accuracy), atol=3)
    assert interval == metrics.bootstrap_interval(correct, 1_000_000, 0)
    assert interval != metrics.bootstrap_interval(correct, 1_000_000, 1)
    assert metrics.bootstrap_interval(np.ones(5, bool), 100, 0) == (1, 1)

import functools
import itertools
import tracemalloc
import warnings

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from stages.library.scoring import metrics, ranking, selection
from stages.library.scoring.probabilities import softmax


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
    of_classes = metrics.per_class(labels, predictions, classes)
    confusion = sklearn.metrics.confusion_matrix(labels, predictions, labels=ids)
    counted = of_classes.right, of_classes.count, of_classes.predicted
    np.testing.assert_array_equal(counted, [confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)])
    f1 = sklearn.metrics.f1_score(labels, predictions, average="macro", zero_division=0)
    for found, expected in (
        (metrics.top1_accuracy(probabilities, labels), sklearn.metrics.accuracy_score(labels, predictions)),
        (of_classes.macro(of_classes.f1), f1),
        (of_classes.balanced_accuracy, sklearn.metrics.balanced_accuracy_score(labels, predictions)),
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
    found = metrics.per_class(np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1]), 4)
    np.testing.assert_array_equal(found.recall, [0.5, 1, 0, 0])
    assert found.balanced_accuracy == 0.75
    assert found.macro(found.f1) == pytest.approx((2 / 3 + 1 + 0) / 3)


def test_memory_does_not_grow_with_the_square_of_the_classes():
    tracemalloc.start()
    assert selection.measure(np.eye(3, 5000, dtype=np.float32), np.arange(3))["balanced_accuracy"] == 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000  # 5,000 x 5,000 counts are 200 MB


@st.composite
def scored(draw):
    """Scores and labels: of few values, which tie, or huge ones; labels of one class or more, predicted or not."""
    classes, n = draw(st.integers(2, 7)), draw(st.integers(1, 40))
    present = draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=classes, unique=True))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    scale = draw(st.sampled_from([0, 1, 1e3, 1e37]))
    logits = rng.integers(-3, 4, (n, classes)) if draw(st.booleans()) else rng.normal(size=(n, classes))
    if draw(st.booleans()):
        logits[:, draw(st.integers(0, classes - 1))] = 3  # which all rows are predicted as, or some
    return (scale * logits.clip(-3, 3)).astype(np.float32), rng.choice(present, n)


@given(scored())
@settings(max_examples=150)
def test_scores_of_classes_and_of_ranks_are_those_of_scikit_learn(example):
    logits, labels = example
    probabilities, predictions = softmax(logits), logits.argmax(axis=1)
    found = metrics.per_class(labels, predictions, logits.shape[1])
    exactly = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-12)
    each = {"labels": np.arange(logits.shape[1]), "average": None, "zero_division": 0}
    of_each = sklearn.metrics.precision_recall_fscore_support(labels, predictions, **each)
    exactly((found.precision, found.recall, found.f1, found.count), of_each)
    for average, mean in (("macro", found.macro), ("weighted", found.weighted)):
        several = sklearn.metrics.precision_recall_fscore_support(labels, predictions, average=average, zero_division=0)
        exactly([mean(found.precision), mean(found.recall), mean(found.f1)], several[:3])
    present = np.unique(labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scikit-learn, where a measure is not defined
        kappa = sklearn.metrics.cohen_kappa_score(labels, predictions)
        balanced = sklearn.metrics.balanced_accuracy_score(labels, predictions)
        areas = [sklearn.metrics.roc_auc_score(labels == c, probabilities[:, c]) for c in present]
        precisions = [sklearn.metrics.average_precision_score(labels == c, probabilities[:, c]) for c in present]
    exactly([found.cohen_kappa, found.balanced_accuracy], [kappa, balanced])
    ranked = ranking.one_against_the_rest(probabilities, labels)
    exactly(ranked, [np.mean(areas), np.mean(precisions)])
    if len(present) == logits.shape[1] > 2:
        rows = probabilities.astype(np.float64) / probabilities.sum(axis=1, keepdims=True, dtype=np.float64)
        several = sklearn.metrics.roc_auc_score(labels, rows, multi_class="ovr")
        exactly(ranking.one_against_the_rest(rows, labels)[0], several)
    ids, eps = np.arange(logits.shape[1]), np.finfo(np.float32).eps
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rows that do not sum to 1
        loss = sklearn.metrics.log_loss(labels, probabilities.astype(np.float64).clip(eps, 1), labels=ids)
    exactly([metrics.log_loss(probabilities, labels), metrics.top1_accuracy(logits, labels)],
            [loss, sklearn.metrics.accuracy_score(labels, predictions)])  # fmt: skip
    ranks = np.argsort(np.argsort(-logits, axis=1, kind="stable"), axis=1)  # of equals the lowest class first
    for k in (1, 3, 5):
        if k < len(ids):
            exactly(
                metrics.topk_accuracy(logits, labels, k),
                sklearn.metrics.top_k_accuracy_score(labels, -ranks if len(ids) > 2 else ranks[:, 0], k=k, labels=ids),
            )
    assert selection.measure(logits, labels) == {
        "top1_accuracy": metrics.top1_accuracy(logits, labels),
        "balanced_accuracy": found.balanced_accuracy,
        "macro_f1": found.macro(found.f1),
        "log_loss": metrics.log_loss(probabilities, labels),
    }


@given(scored())
def test_rows_count_as_they_weigh(example):
    logits, labels = example
    weights, predictions = np.random.default_rng(0).random(len(labels)) + 0.1, logits.argmax(axis=1)
    reference = sklearn.metrics.accuracy_score(labels, predictions, sample_weight=weights)
    assert metrics.top1_accuracy(logits, labels, weights) == pytest.approx(reference, abs=1e-12)
    at_label = softmax(logits)[np.arange(len(labels)), labels].astype(np.float64)
    expected = -np.average(np.log(at_label.clip(np.finfo(np.float32).eps)), weights=weights)
    assert metrics.log_loss(softmax(logits), labels, weights) == pytest.approx(expected, abs=1e-12)


def test_more_merit_is_better():
    assert [selection.merit(metric, 0.3) for metric in selection.METRICS] == [0.3, 0.3, 0.3, -0.3]


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_is_wilsons(counts):
    low, high = metrics.wilson_interval(*counts)
    assert 0 <= low <= counts[0] / counts[1] <= high <= 1
    np.testing.assert_allclose((low, high), binomtest(*counts).proportion_ci(method="wilson"), rtol=0, atol=1e-12)


@pytest.mark.parametrize("n", [4, 10, 30, 300])
def test_the_interval_covers_the_accuracy_about_19_times_in_20(n):
    """Of all accuracies: as often as their number of right images falls where the interval has them."""
    low, high = np.transpose([metrics.wilson_interval(right, n) for right in range(n + 1)])
    accuracies = np.linspace(0.0005, 0.9995, 1000)[:, None]
    covered = (binom.pmf(np.arange(n + 1), n, accuracies) * ((low <= accuracies) & (accuracies <= high))).sum(axis=1)
    assert 0.94 < covered.mean() < 0.97
    assert covered.min() > 0.8
    # Where a bootstrap of nothing but right images says [1, 1].
    np.testing.assert_allclose(metrics.wilson_interval(n, n), (n / (n + 1.96**2), 1), atol=1e-4)

"""Greedy ensemble selection, by hand and where the best weights are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.library.combination import averaging
from stages.library.combination.averaging import Average
from stages.library.combination.members import Examples
from stages.library.scoring import metrics, selection
from stages.library.scoring.probabilities import softmax


def examples(probabilities, labels, weights=None):
    """Examples of members' probabilities of class 1, of two classes, or of all classes."""
    given = np.array(probabilities, np.float32)
    given = np.stack([1 - given, given], axis=2) if given.ndim == 2 else given
    labels = np.array(labels)
    weights = np.ones(len(labels)) if weights is None else np.array(weights, float)
    return Examples(given, labels, np.arange(len(labels), dtype=np.uint64), weights)


def test_selection_by_hand():
    """Alone they have 2, 3 and 3 of 4 right; of these two the second has the smaller log loss, and begins.

    With the third all are right, and so they are with the second once more, whose log loss is smaller then.
    """
    given = examples([[0.4, 0.4, 0.4, 0.4], [0.9, 0.8, 0.2, 0.6], [0.8, 0.4, 0.4, 0.1]], [1, 1, 0, 0])
    path = averaging.select(given, "top1_accuracy", 3)
    weights = [[0, 1, 0], [0, 1 / 2, 1 / 2], [0, 2 / 3, 1 / 3]]
    assert [average.weights.tolist() for _, average in path] == [pytest.approx(each) for each in weights]
    assert [rank[0] for rank, _ in path] == [0.75, 1, 1]
    at_labels = [(0.9, 0.8, 0.8, 0.4), (0.85, 0.6, 0.7, 0.65), (2.6 / 3, 2 / 3, 2.2 / 3, 1.7 / 3)]
    assert [-rank[1] for rank, _ in path] == pytest.approx([-np.log(each).mean() for each in at_labels], abs=1e-6)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.7, 1.0])
def test_the_best_weights_of_two_members_are_found(share):
    """Each is sure and right where the other is sure and wrong: the log loss is least where weights are the shares."""
    labels = np.ones(100, int)
    right = np.arange(100) < 100 * share
    given = examples([right.astype(float), ~right], labels)
    found, _ = averaging.fit(given, None, "log_loss", 10)
    assert found.weights.tolist() == pytest.approx([share, 1 - share])


def test_weights_of_losses_move_the_best_weights_only_through_ties():
    given = examples([[1.0, 0.0], [0.0, 1.0]], [1, 1], weights=[3.0, 1.0])
    path = averaging.select(given, "top1_accuracy", 1)
    assert path[0][1].weights.tolist() == [1, 0], "equal accuracies: the heavier row decides"


@pytest.mark.parametrize("metric", selection.METRICS)
def test_one_draw_is_the_best_member_and_more_are_never_worse_on_the_same_rows(metric):
    @given(st.integers(0, 2**32 - 1), st.integers(1, 5))
    def check(seed, members):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 3, 30)
        logits = rng.normal(size=(members, 30, 3)) + 0.7 * np.eye(3)[labels]
        shown = examples(np.stack([softmax(each) for each in logits]), labels)
        alone = [
            selection.merit(metric, selection.measure(np.log(each), labels)[metric]) for each in shown.probabilities
        ]
        one, curve = averaging.fit(shown, None, metric, 1)
        assert curve == []
        assert sorted(one.weights) == [0] * (members - 1) + [1]
        assert alone[int(one.weights.argmax())] == pytest.approx(max(alone), abs=1e-6)
        several, _ = averaging.fit(shown, None, metric, 7)
        assert several.weights.sum() == pytest.approx(1)
        found = selection.measure(several.logits(shown.probabilities), labels)[metric]
        assert selection.merit(metric, found) >= max(alone) - 1e-6

    check()


def test_an_average_is_that_of_the_probabilities_and_zero_has_a_finite_logarithm():
    given = np.array([[[1.0, 0.0], [0.2, 0.8]], [[1.0, 0.0], [0.6, 0.4]]], np.float32)
    logits = Average(np.array([0.25, 0.75], np.float32)).logits(given)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(softmax(logits), np.array([[1, 0], [0.5, 0.5]]), atol=1e-6)
    assert np.isfinite(logits).all()


def test_the_curve_has_each_draw_on_both_sides_and_what_is_held_out_decides_nothing():
    training = examples([[0.9, 0.1, 0.9], [0.6, 0.4, 0.2]], [1, 0, 0])
    held_out = examples([[0.1], [0.9]], [1])
    found, curve = averaging.fit(training, held_out, "top1_accuracy", 2)
    assert found.weights.tolist() == averaging.fit(training, None, "top1_accuracy", 2)[0].weights.tolist() == [0, 1]
    assert [point[:2] for point in curve] == [(at, series) for at in (1.0, 2.0) for series in ("training", "held-out")]
    assert curve[1][2] == 1.0, "on the held-out row the second member is right"
    assert curve[1][3] == pytest.approx(metrics.log_loss(held_out.probabilities[1], held_out.labels))

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.library.scoring import operating
from stages.library.scoring.metrics import wilson_interval
from stages.library.scoring.operating import Operating


def rows(true, labels):
    """Probabilities of two classes, by that of the true one."""
    true, labels = np.array(true, np.float32), np.array(labels)
    return np.where(np.arange(2) == labels[:, None], true[:, None], 1 - true[:, None]).astype(np.float32), labels


def test_a_threshold_by_hand():
    # Confidence 0.95 right, 0.9 right, 0.8 wrong, 0.75 right, 0.7 right, 0.6 wrong.
    probabilities, labels = rows([0.9, 0.95, 0.2, 0.75, 0.4, 0.7], [0, 1, 0, 1, 1, 0])
    for target, least, answered in ((1.0, 0.9, 2), (0.8, 0.7, 5), (0.67, 0.7, 5), (0.66, 0.6, 6)):
        found = operating.find(probabilities, labels, target, 0.5)
        assert found.confidence == pytest.approx(least, abs=2e-6)
        assert found.is_sure(probabilities).sum() == answered


def test_equals_are_answered_together_and_what_cannot_be_reached_is_never_answered():
    probabilities, labels = rows([0.9, 0.1, 0.9, 0.8], [0, 0, 1, 1])
    found = operating.find(probabilities, labels, 0.7, 0.5)
    assert found.confidence == pytest.approx(0.8, abs=2e-6)  # two of three with 0.9 are right, three of four in all
    never = operating.find(probabilities, labels, 0.99, 0.5)
    assert never.confidence is None
    assert not never.is_sure(probabilities).any()
    worth = operating.measure(never, probabilities, labels)
    assert worth["answers"] == {"answered": 0}


def test_one_that_is_sure_beyond_six_decimals_is_answered():
    probabilities, labels = rows([1.0, 0.9999999, 0.3], [0, 1, 1])
    assert operating.find(probabilities, labels, 1.0, 0.5).is_sure(probabilities).tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("coverage", "in_set"),
    [(0.2, 0.9), (0.5, 0.7), (0.6, 0.6), (0.61, 0.5), (0.9, 0.2), (0.91, 0.0), (0.99, 0.0)],
)
def test_sets_by_hand(coverage, in_set):
    """Nine images: the score of rank ceil(10 * coverage), and each class where there is no such rank."""
    probabilities, labels = rows([0.9, 0.9, 0.8, 0.8, 0.7, 0.6, 0.5, 0.3, 0.2], np.arange(9) % 2)
    found = operating.find(probabilities, labels, 0.5, coverage)
    assert found.in_set == pytest.approx(in_set, abs=2e-6)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.5, 0.8, 0.9, 0.99]), st.floats(0.1, 5))
def test_sets_cover_as_stated_on_average(seed, coverage, sharpness):
    """For images of one kind the covered fraction is at least as stated, and at most 1 / (n + 1) above (LAC's law)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(200, 100, 5)) * sharpness
    odds = np.exp(logits)
    probabilities = (odds / odds.sum(axis=2, keepdims=True)).astype(np.float32)
    labels = (rng.random((200, 100, 1)) > np.cumsum(probabilities, axis=2)[..., :-1]).sum(axis=2)
    covered = []
    for one, true in zip(probabilities, labels, strict=True):
        found = operating.find(one[:60], true[:60], 0.9, coverage)
        covered.append(found.sets(one[60:])[np.arange(40), true[60:]].mean())
    spread = np.std(covered) / np.sqrt(len(covered))
    upper = coverage + 1 / 61 if np.ceil(61 * coverage) <= 60 else 1.0
    assert coverage - 5 * spread - 1e-6 <= np.mean(covered) <= upper + 5 * spread + 1e-6


def test_measures_by_hand():
    probabilities, labels = rows([0.9, 0.1, 0.6, 0.7], [0, 1, 1, 0])
    found = operating.measure(Operating(0.7, 0.35), probabilities, labels)
    low, high = wilson_interval(2, 3)
    answers = {"answered": 0.75, "least_confidence": 0.7, "accuracy": 2 / 3, "low": low, "high": high}
    assert found["answers"] == pytest.approx(answers)
    low, high = wilson_interval(3, 4)
    sets = {"least_probability": 0.35, "coverage": 0.75, "mean_size": 5 / 4, "low": low, "high": high}
    assert found["sets"] == pytest.approx(sets)


def test_the_curve_by_hand():
    probabilities, labels = rows([0.9, 0.05, 0.6, 0.7], [0, 1, 1, 0])
    points = ((0.25, 0, 1), (0.5, 1, 2), (0.75, 2, 3), (1, 3, 4))
    expected = [(share, right / n, *wilson_interval(right, n)) for share, right, n in points]
    assert operating.curve(probabilities, labels) == expected
    many = np.tile(probabilities, (300, 1))
    found = operating.curve(many, np.tile(labels, 300))
    assert len(found) == operating.POINTS
    assert found[-1][:2] == (1, 0.75)

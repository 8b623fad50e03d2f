import numpy as np
import pytest

from stages.library.heads import calibration
from stages.library.scoring import metrics
from stages.library.scoring.probabilities import softmax


def calibrated(n=40_000, seed=0):
    """Logits and labels drawn from their softmax."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2, size=(n, 5)).astype(np.float32)
    labels = (softmax(logits).cumsum(axis=1) < rng.random((len(logits), 1))).sum(axis=1).clip(0, 4)
    return logits, labels


@pytest.mark.parametrize("temperature", [0.13, 1, 5])
def test_recovers_the_temperature(temperature):
    logits, labels = calibrated()
    found = calibration.fit_temperature(logits * np.float32(temperature), labels)
    assert found == pytest.approx(temperature, rel=0.03)


def test_is_the_minimum_of_the_smoothed_log_loss():
    logits, labels = calibrated(n=50)
    targets = (50 * np.eye(5)[labels] + np.full(5, 1 / 5)) / 51
    temperatures = np.geomspace(0.1, 10, 2001)
    losses = [-np.sum(targets * np.log(softmax(logits / np.float32(t)))) for t in temperatures]
    assert calibration.fit_temperature(logits, labels) == pytest.approx(temperatures[np.argmin(losses)], rel=3e-3)


def test_scores_without_a_mistake_end_as_sure_as_their_number_allows():
    """Two classes, n right rows: the target of each is 1 - 1 / (2 (n + 1)), which the probability meets exactly."""
    for n in (9, 999):
        logits = np.tile(np.array([[1, -1]], np.float32), (n, 1))
        temperature = calibration.fit_temperature(logits, np.zeros(n, np.int64))
        assert softmax(logits / np.float32(temperature))[0, 0] == pytest.approx(1 - 1 / (2 * (n + 1)), abs=1e-5)


def test_useless_scores_end_at_the_bound():
    scores = np.eye(3, dtype=np.float32)
    assert calibration.fit_temperature(-scores, np.arange(3)) == pytest.approx(100)


def test_lowers_the_expected_calibration_error():
    logits, labels = calibrated(n=5000)
    sure = 3 * logits
    scaled = sure / np.float32(calibration.fit_temperature(sure, labels))
    before, after = (metrics.expected_calibration_error(softmax(scores), labels) for scores in (sure, scaled))
    assert before > 0.1
    assert after < 0.02
    assert metrics.top1_accuracy(sure, labels) == metrics.top1_accuracy(scaled, labels)

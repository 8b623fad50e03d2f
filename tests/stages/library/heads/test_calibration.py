import numpy as np
import pytest

from stages.library.heads import calibration
from stages.library.scoring import metrics
from stages.library.scoring.probabilities import softmax


@pytest.mark.parametrize("temperature", [0.13, 1, 5])
def test_recovers_the_temperature_and_confidence_means_accuracy(temperature):
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2, size=(40_000, 5)).astype(np.float32)
    labels = (softmax(logits).cumsum(axis=1) < rng.random((40_000, 1))).sum(axis=1).clip(0, 4)  # drawn from them
    found = calibration.fit_temperature(logits * np.float32(temperature), labels, np.ones(40_000))
    assert found == pytest.approx(temperature, rel=0.03)
    assert metrics.expected_calibration_error(softmax(logits * np.float32(temperature / found)), labels) < 0.02
    # The definition: it is the minimum of the smoothed log loss.
    few, targets = logits[:50] * np.float32(temperature), (50 * np.eye(5)[labels[:50]] + np.full(5, 1 / 5)) / 51
    temperatures = temperature * np.geomspace(0.2, 5, 1601)
    losses = [-np.sum(targets * np.log(softmax(few / np.float32(t)))) for t in temperatures]
    assert calibration.fit_temperature(few, labels[:50], np.ones(50)) == pytest.approx(
        temperatures[np.argmin(losses)], rel=3e-3
    )


def test_scores_without_a_mistake_end_as_sure_as_their_number_allows_and_useless_ones_at_the_bound():
    """Two classes, n right rows: the target of each is 1 - 1 / (2 (n + 1)), which the probability meets exactly."""
    for n in (9, 999):
        logits = np.tile(np.array([[1, -1]], np.float32), (n, 1))
        temperature = calibration.fit_temperature(logits, np.zeros(n, np.int64), np.ones(n))
        assert softmax(logits / np.float32(temperature))[0, 0] == pytest.approx(1 - 1 / (2 * (n + 1)), abs=1e-5)
    # Those that are of no use end at the bound.
    assert calibration.fit_temperature(-np.eye(3, dtype=np.float32), np.arange(3), np.ones(3)) == pytest.approx(100)


def test_a_row_counts_as_much_as_it_weighs():
    rng = np.random.default_rng(0)
    logits, labels, weights = rng.normal(size=(200, 3)).astype(np.float32), rng.integers(0, 3, 200), rng.random(200)
    found = calibration.fit_temperature(3 * logits, labels, weights)
    targets, temperatures = (200 * np.eye(3)[labels] + 1 / 3) / 201, found * np.geomspace(0.8, 1.25, 801)
    losses = [-weights @ (targets * np.log(softmax(3 * logits / np.float32(t)))).sum(axis=1) for t in temperatures]
    assert found == pytest.approx(temperatures[np.argmin(losses)], rel=3e-3)
    assert found != pytest.approx(calibration.fit_temperature(3 * logits, labels, np.ones(200)), rel=0.02)

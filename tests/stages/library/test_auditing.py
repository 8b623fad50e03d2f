"""What may be wrong with a data set, on data where it is known."""

import numpy as np
import pytest
from section import section

from stages.library import auditing


def test_a_planted_label_error_is_found_and_the_worst_comes_first():
    truth = np.random.default_rng(0).integers(0, 4, 400)
    probabilities = np.full((400, 4), 0.04, np.float32)
    probabilities[np.arange(400), truth] = 0.88
    labels = truth.copy()
    labels[[7, 300]] = (truth[[7, 300]] + 1) % 4
    probabilities[300, labels[300]], probabilities[300, truth[300]] = 0.01, 0.91
    assert auditing.label_issues(labels, probabilities).tolist() == [300, 7]
    assert auditing.label_issues(truth, probabilities).tolist() == []


def test_neighbours_by_hand():
    angles = np.deg2rad([0, 10, 60, 90])
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.array([[1], [5], [2], [3]])
    distances, neighbours = auditing.nearest(features.astype(np.float16), 2)
    assert neighbours.tolist() == [[1, 2], [0, 2], [3, 1], [2, 1]]
    chords = 2 * np.sin(np.deg2rad([[10, 60], [10, 50], [30, 50], [30, 80]]) / 2)
    np.testing.assert_allclose(distances, chords, atol=1e-3)
    # Fewer than asked for, and features of zero.
    distances, neighbours = auditing.nearest(np.eye(3, 5, dtype=np.float16) * [[1], [0], [0]], 10)
    assert distances.shape == neighbours.shape == (3, 2)
    assert np.isfinite(distances).all()


def test_the_image_far_from_all_others_is_the_first_outlier():
    features = (np.random.default_rng(0).normal(size=(200, 16)) * 0.1 + np.eye(16)[0]).astype(np.float16)
    features[42] = -features[42]
    scores = auditing.typicality(*auditing.nearest(features, 10))
    assert scores.shape == (200,)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert scores.argmin() == 42


def test_a_sample_does_not_depend_on_the_order():
    params = section("audit", max_images=100, seed=0)
    keys = np.array([f"{number:064x}" for number in range(500)], object)
    rows = auditing.sample(keys, params)
    assert len(rows) == 100
    assert (np.diff(rows) > 0).all()
    assert set(keys[::-1][auditing.sample(keys[::-1], params)]) == set(keys[rows])
    assert auditing.sample(keys[:100], params).tolist() == list(range(100))
    assert set(auditing.sample(keys, section("audit", max_images=100, seed=1))) != set(rows)


@pytest.mark.parametrize("rows", [[], [0], [2, 3, 7], [5, 6], range(8)])
def test_rows_of_blocks_are_those_of_all_blocks_joined(rows):
    every = np.arange(16.0).reshape(8, 2)
    blocks, rows = [every[:3], every[3:3], every[3:7], every[7:]], np.array(rows, np.int64)
    np.testing.assert_array_equal(auditing.rows_of(blocks, rows), every[rows])

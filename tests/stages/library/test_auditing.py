"""What may be wrong with a data set, on data where it is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.library import auditing
from stages.library.common.params import ParamsError, parse

SETTINGS = {"neighbours": 10, "near_duplicate": 0.13, "max_images": 100, "images": 12, "seed": 0}


def test_a_planted_label_error_is_found_and_the_worst_comes_first():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 400)
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


def test_there_may_be_fewer_neighbours_than_asked_for_and_features_of_zero():
    features = np.zeros((3, 5), np.float16)
    features[0, 0] = 1
    distances, neighbours = auditing.nearest(features, 10)
    assert distances.shape == neighbours.shape == (3, 2)
    assert np.isfinite(distances).all()


def test_near_duplicates_by_hand():
    distances = np.array([[0.1, 1.0], [0.1, 1.1], [1.0, 1.2], [0.0, 1.2], [0.0, 1.3], [1.0, 1.2]])
    neighbours = np.array([[1, 2], [0, 2], [0, 1], [4, 0], [3, 1], [0, 2]])
    # The median distance to the nearest is 0.1: a fifth of it leaves the identical pair.
    pairs, apart = auditing.near_duplicates(distances, neighbours, 0.2)
    assert (pairs.tolist(), apart.tolist()) == ([[3, 4]], [0.0])
    pairs, apart = auditing.near_duplicates(distances * [[1], [1], [4], [1], [1], [4]], neighbours, 1.0)
    assert pairs.tolist() == [[3, 4]]  # the limit itself is not below the limit
    distances[[2, 5]] = 3.0
    distances[:2, 0] = 0.01
    pairs, apart = auditing.near_duplicates(distances + np.array([0, 0, 0, 1, 1, 0])[:, None], neighbours, 0.13)
    assert (pairs.tolist(), apart.tolist()) == ([[0, 1]], [0.01])


@given(st.integers(0, 2**32 - 1), st.integers(5, 60))
def test_every_pair_of_copies_is_found_once(seed, count):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, 8)).astype(np.float16)
    first, second = rng.choice(count, 2, replace=False)
    features[second] = features[first]
    pairs, _ = auditing.near_duplicates(*auditing.nearest(features, 4), 0.0)
    assert [min(first, second), max(first, second)] in pairs.tolist()
    assert len({tuple(pair) for pair in pairs.tolist()}) == len(pairs)
    assert (pairs[:, 0] < pairs[:, 1]).all()


def test_the_image_far_from_all_others_is_the_first_outlier():
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(200, 16)) * 0.1 + np.eye(16)[0]).astype(np.float16)
    features[42] = -features[42]
    scores = auditing.typicality(*auditing.nearest(features, 10))
    assert scores.shape == (200,)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert auditing.outliers(scores, 3)[0] == 42
    assert len(auditing.outliers(scores, 3)) == 3


def test_a_sample_does_not_depend_on_the_order():
    params = parse("audit", SETTINGS, auditing.Params)
    keys = np.array([f"{number:064x}" for number in range(500)], object)
    rows = auditing.sample(keys, params)
    assert len(rows) == 100
    assert (np.diff(rows) > 0).all()
    turned = auditing.sample(keys[::-1], params)
    assert set(keys[::-1][turned]) == set(keys[rows])
    assert auditing.sample(keys[:100], params).tolist() == list(range(100))
    other = auditing.sample(keys, parse("audit", SETTINGS | {"seed": 1}, auditing.Params))
    assert set(other) != set(rows)


@pytest.mark.parametrize(
    ("key", "value"), [("neighbours", 0), ("near_duplicate", 1.1), ("max_images", 99), ("images", 0), ("seed", -1)]
)
def test_params_out_of_range_are_rejected(key, value):
    with pytest.raises(ParamsError, match=rf"`audit.{key}`: .*Received: {value}"):
        parse("audit", SETTINGS | {key: value}, auditing.Params)

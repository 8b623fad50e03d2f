"""Where images lie on the map: alike side by side, the same in each run, however few or many there are."""

import sys

import numpy as np
import pytest
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from stages.library.mapping import layout
from stages.library.mapping.layout import Params
from tests import processes

THREADS = """
import numpy
from threadpoolctl import threadpool_info
from stages.library.mapping import layout

def embed(rows, seed):
    print({pool["num_threads"] for pool in threadpool_info()}, {pool["user_api"] for pool in threadpool_info()})
    return rows[:, :2]

layout._embed = embed
params = layout.Params(max_images=100, landmarks=100, seed=0)
layout.lay_out(numpy.random.default_rng(0).normal(size=(60, 60)), numpy.arange(60).astype(str), params)
"""
KEYS = np.array([f"{number:064x}" for number in range(1000)], object)


def params(landmarks=100, seed=0):
    return Params(max_images=100, landmarks=landmarks, seed=seed)


def blobs(count, dim=60):
    """Features of three kinds of images, float16, and the kinds."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 3, count)
    return (5 * rng.normal(size=(3, dim))[kinds] + rng.normal(size=(count, dim))).astype(np.float16), kinds


def purity(places, kinds):
    """Returns the share of images whose nearest on the map is of their kind."""
    distances = np.linalg.norm(places[:, None] - places[None], axis=2) + np.diag(np.full(len(places), np.inf))
    return float(np.mean(kinds[distances.argmin(axis=1)] == kinds))


@pytest.mark.parametrize("count", [100, 400])  # all by t-SNE; most of them between landmarks
def test_images_of_a_kind_lie_together_and_the_longer_side_fills_the_map(count):
    features, kinds = blobs(count)
    places = layout.lay_out(features, KEYS[:count], params())
    assert places.shape == (count, 2)
    assert (np.round(places, 5) == places).all()
    sides = places.max(axis=0) - places.min(axis=0)
    assert (places.min() >= 0, places.max() <= 1, sides.max()) == (True, True, 1)
    assert places.min(axis=0) + places.max(axis=0) == pytest.approx([1, 1], abs=2e-5)  # in the middle
    assert purity(places, kinds) > 0.98


def test_the_same_bytes_with_as_many_threads_as_one_likes_and_others_by_another_seed():
    features, _ = blobs(300)
    first = layout.lay_out(features, KEYS[:300], params())
    for threads in (1, 2, 4):
        with threadpool_limits(threads):
            assert layout.lay_out(features, KEYS[:300], params()).tobytes() == first.tobytes()
    assert layout.lay_out(features, KEYS[:300], params(seed=1)).tobytes() != first.tobytes()


def test_an_image_lies_between_its_landmarks_by_the_inverse_squares_of_their_distances():
    landmarks, places = np.array([[0.0], [3.0], [30.0], [90.0]]), np.array([[0.0, 0], [1, 0], [0, 1], [5, 5]])
    found = layout._between(np.array([[1.0], [3.0]]), landmarks, places)
    weights = np.array([1, 1 / 4, 1 / 841])
    assert found[0] == pytest.approx(weights @ places[:3] / weights.sum())
    assert found[1] == pytest.approx([1, 0], abs=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("dim", [1, 3])
def test_few_images_have_places_too(count, dim):
    features = np.random.default_rng(0).normal(size=(count, dim)).astype(np.float16)
    places = layout.lay_out(features, KEYS[:count], params())
    assert places.shape == (count, 2)
    assert np.isfinite(places).all()


@pytest.mark.parametrize("value", [0, 1])
def test_images_that_are_all_the_same_lie_in_one_place(value):
    places = layout.lay_out(np.full((120, 8), value, np.float16), KEYS[:120], params())
    assert np.ptp(places, axis=0).max() < 0.02 or len(np.unique(places, axis=0)) == 1


def test_a_sample_depends_on_keys_not_on_their_order():
    rows = layout.sample(KEYS, 100, "map", 0)
    assert len(rows) == 100
    assert (np.diff(rows) > 0).all()
    assert set(KEYS[::-1][layout.sample(KEYS[::-1], 100, "map", 0)]) == set(KEYS[rows])
    assert set(layout.sample(KEYS, 100, "landmark", 0)) != set(rows)
    assert layout.sample(KEYS, 1000, "map", 0).tolist() == list(range(1000))


def test_a_new_process_lays_out_on_one_thread_of_each_library():
    """OpenMP, too, which scikit-learn loads: many threads wait for each other where other work has the cores."""
    done = processes.run(sys.executable, "-c", THREADS, OMP_NUM_THREADS=2, OPENBLAS_NUM_THREADS=2)
    numbers, libraries = done.stdout.strip().split("} {")
    assert numbers == "{1"
    assert "openmp" in libraries
    assert "blas" in libraries

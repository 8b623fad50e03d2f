import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from stages.library.features import nearest


def test_unit_length_by_hand():
    blocks = [np.array([[3, 4], [0, 0]], np.float16), np.array([[0, 0, 20], [0, 1, 0]], np.float16)]
    expected = np.array([[0.6, 0.8, 0, 0, 1], [0, 0, 0, 1, 0]]) / np.sqrt(2)
    np.testing.assert_allclose(nearest.unit_length(blocks), expected, rtol=1e-6)
    np.testing.assert_allclose(nearest.unit_length(blocks[:1]), np.array([[0.6, 0.8], [0, 0]]), rtol=1e-6)


@pytest.mark.parametrize("pairs", [1, 200, 1 << 22])
@pytest.mark.parametrize("k", [1, 3, 40])
def test_distances_are_scikit_learns_whatever_the_blocks(monkeypatch, pairs, k):
    monkeypatch.setattr(nearest, "PAIRS_PER_BLOCK", pairs)
    rng = np.random.default_rng(0)
    bank, rows = (nearest.unit_length([rng.normal(size=(count, 8))]) for count in (41, 17))
    search = NearestNeighbors(n_neighbors=k).fit(bank)
    found = nearest.kth_distances(rows, bank, k)
    np.testing.assert_allclose(found, search.kneighbors(rows)[0][:, -1], atol=1e-5)
    alone = nearest.kth_distances(bank, bank, k, leave_one_out=True)
    np.testing.assert_allclose(alone, search.kneighbors()[0][:, -1], atol=1e-5)


def test_no_rows_have_no_distances():
    assert nearest.kth_distances(np.empty((0, 3)), np.eye(3), 1).shape == (0,)

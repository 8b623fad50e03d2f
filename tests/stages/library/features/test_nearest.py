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


@pytest.mark.parametrize(("pairs", "rows"), [(1, 1), (200, 7), (200, 100), (1 << 22, 1 << 14)])
def test_blocks_of_any_size_give_the_same_bits_as_all_rows_at_once(monkeypatch, pairs, rows):
    rng = np.random.default_rng(0)
    bank = nearest.unit_length([rng.normal(size=(41, 8)), rng.normal(size=(41, 4))]).astype(np.float16)
    blocks = [rng.normal(size=(50, 8)).astype(np.float16), rng.normal(size=(50, 4)).astype(np.float16)]
    monkeypatch.setattr(nearest, "PAIRS_PER_BLOCK", pairs)
    monkeypatch.setattr(nearest, "UNIT_ROWS", rows)
    together = nearest.kth_distances(nearest.unit_length(blocks), bank, 3)
    assert nearest.kth_distances_of(blocks, bank, 3).tobytes() == together.tobytes()


def test_rows_are_brought_to_unit_length_some_at_a_time(monkeypatch):
    seen, unit_length = [], nearest.unit_length

    def noted(blocks):
        seen.append(len(blocks[0]))
        return unit_length(blocks)

    monkeypatch.setattr(nearest, "UNIT_ROWS", 16)
    monkeypatch.setattr(nearest, "unit_length", noted)
    monkeypatch.setattr(nearest, "PAIRS_PER_BLOCK", 40)
    nearest.kth_distances_of([np.ones((50, 3))], np.eye(3), 1)
    assert seen == [13, 13, 13, 11]

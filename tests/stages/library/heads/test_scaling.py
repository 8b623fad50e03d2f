import numpy as np
import pytest

from stages.library.heads import scaling
from stages.library.heads.scaling import RowScaling


def test_rows_by_hand():
    features = np.array([[9, -16], [0, 0]], np.float32)
    length = np.sqrt(9**2 + 16**2)
    for row, options in (([9, -16], (1, False)), ([3, -4], (0.5, False)), ([0.6, -0.8], (0.5, True))):
        np.testing.assert_allclose(RowScaling(*options)(features), [row, [0, 0]], rtol=1e-6)
    for factor in (1, 0.002, 500):
        unit = RowScaling(unit_length=True)(features * np.float32(factor))
        np.testing.assert_allclose(unit, [[9 / length, -16 / length], [0, 0]], rtol=1e-6)
    assert RowScaling(0.5, True)(features.astype(np.float16)).dtype == np.float16


def test_blocks_change_nothing(monkeypatch):
    features = np.random.default_rng(0).normal(size=(11, 3)).astype(np.float16)
    columns = scaling.standardization(features, np.arange(11), np.ones(11))
    whole = RowScaling(0.5, True)(features), columns.of_rows(features, np.arange(1, 11))
    monkeypatch.setattr(scaling, "BLOCK_ROWS", 4)
    np.testing.assert_array_equal(RowScaling(0.5, True)(features), whole[0])
    np.testing.assert_array_equal(columns.of_rows(features, np.arange(1, 11)), whole[1])
    np.testing.assert_array_equal(whole[1], columns(features[1:]))


def test_standardization_survives_constant_columns_and_offsets():
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(9000, 3)) * [1, 2, 0] + [1000, -3, 7]).astype(np.float32)
    rows = np.arange(0, 9000, 2)
    measured = scaling.standardization(features, rows, np.ones(9000))
    np.testing.assert_allclose(measured.mean, features[rows].mean(axis=0, dtype=np.float64), rtol=1e-9)
    variance = features[rows].var(axis=0, dtype=np.float64)
    np.testing.assert_allclose(measured.scale**2, variance + 0.01 * variance.mean(), rtol=1e-6)
    assert (scaling.standardization(np.full((4, 2), 5, np.float16), np.arange(4), np.ones(4)).scale == 1).all()
    centred = scaling.standardization(features, rows, np.ones(9000), deviation=None)
    np.testing.assert_array_equal([centred.mean, centred.scale], [measured.mean, [1, 1, 1]])


@pytest.mark.parametrize("deviation", [0.5, 1.0])
def test_folding_keeps_the_outputs(deviation):
    rng = np.random.default_rng(1)
    features = rng.normal(3, rng.uniform(0.1, 9, 20), size=(200, 20)).astype(np.float32)
    kernel, bias = rng.normal(size=(20, 4)), rng.normal(size=4)
    columns = scaling.standardization(features, np.arange(200), np.ones(200), deviation)
    raw_kernel, raw_bias = columns.fold_into(kernel, bias)
    assert raw_kernel.dtype == raw_bias.dtype == np.float32
    np.testing.assert_allclose(features @ raw_kernel + raw_bias, columns(features) @ kernel + bias, atol=1e-3)


def test_a_row_counts_as_often_as_it_is_heavy():
    rng = np.random.default_rng(0)
    features, weights = rng.normal(3, 2, (50, 4)), rng.integers(1, 5, 50)
    measured = scaling.standardization(features, np.arange(5, 50), weights.astype(float))
    repeated = np.repeat(features[5:], weights[5:], axis=0)
    expected = scaling.standardization(repeated, np.arange(len(repeated)), np.ones(len(repeated)))
    np.testing.assert_allclose([measured.mean, measured.scale], [expected.mean, expected.scale], rtol=1e-12)

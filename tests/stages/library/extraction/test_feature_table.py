"""Features put in the order of the shards, from parts in any order."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from stages.library.extraction import feature_table
from stages.library.extraction.feature_store import FeatureStore, Rows
from stages.library.extraction.feature_table import FeatureTable
from stages.library.features import cache
from stages.library.features.source import Source
from stages.library.records.manifest import Manifest
from stages.library.records.preprocessing import Preprocessing
from stages.library.records.tfrecord import SPLITS

SOURCE = Source("tiny", Preprocessing(32), False, "a" * 64, "f" * 64, ("ant", "bee"))


def keys(*numbers):
    return np.array([f"{number:064x}" for number in numbers], "S64")


def rows(*numbers):
    values = np.array(numbers, np.float16)[:, None]
    return Rows(keys(*numbers), values + np.arange(3, dtype=np.float16), -values * np.ones(2, np.float16))


@pytest.fixture
def table(tmp_path):
    """Images 7 3 | | 3 5 9: number 3 stands twice."""
    paths = tuple(Path(f"{split}-00000-of-00001.tfrecord") for split in SPLITS)
    names, labels = pa.chunked_array([[b"a.png"] * 5]), np.array([0, 1, 1, 0, 1])
    about = labels, np.array([1, 3, 3, 2**64 - 1, 9], np.uint64), np.array([1, 2, 1, 0.5, 1])
    manifest = Manifest(paths, (2, 0, 3), keys(7, 3, 3, 5, 9), names, *about, *np.zeros((2, 5), np.int64))
    made = FeatureTable(tmp_path / "rows.partial", manifest, 3, 2)
    yield made
    made.close()
    assert not (tmp_path / "rows.partial").exists()


def test_features_without_logits_are_stored_and_written(tmp_path):
    store = FeatureStore(tmp_path / "store", {}, 3, 0)
    part = Rows(keys(4, 2), np.arange(6, dtype=np.float16).reshape(2, 3), np.empty((2, 0), np.float16))
    store.put(part, "insects")
    (found,) = store.read(store.parts())
    assert (found.bottleneck.tolist(), found.logits.shape) == (part.bottleneck.tolist(), (2, 0))
    other = FeatureStore(tmp_path / "store", {}, 3, 1)  # of other widths
    assert list(other.read(other.parts())) == []
    paths, names = (Path("train-00000-of-00001.tfrecord"),), pa.chunked_array([[b"a.png"] * 2])
    about = np.array([0, 1]), np.array([1, 3], np.uint64), np.ones(2)
    manifest = Manifest(paths, (2,), keys(2, 4), names, *about, *np.zeros((2, 2), np.int64))
    table = FeatureTable(tmp_path / "rows.partial", manifest, 3, 0)
    table.fill(found)
    table.write_shards(tmp_path, SOURCE)
    table.close()
    assert cache.load(tmp_path, ["train"], "bottleneck").values.tolist() == [[3, 4, 5], [0, 1, 2]]


def test_of_equal_images_one_is_missing_and_both_are_filled(table):
    np.testing.assert_array_equal(table.missing(keys()), [0, 1, 3, 4])
    np.testing.assert_array_equal(table.missing(keys(9, 100, 3)), [0, 3])
    table.fill(rows(3))
    np.testing.assert_array_equal(table.missing(keys(5)), [0, 4])


@pytest.mark.parametrize("block", [1, 2, 1024])
def test_parts_in_any_order_give_the_shards(table, tmp_path, monkeypatch, block):
    monkeypatch.setattr(feature_table, "ROWS_PER_BLOCK", block)
    for part in (rows(9, 1, 3), rows(8), rows(7), rows(3, 5)):
        assert not table.complete
        table.fill(part)
    assert table.complete
    assert len(table.missing(keys())) == 0
    table.write_shards(tmp_path, SOURCE)
    train, test = (cache.load(tmp_path, [split], "joined") for split in ("train", "test"))
    np.testing.assert_array_equal(train.values, [[7, 8, 9, -7, -7], [3, 4, 5, -3, -3]])
    np.testing.assert_array_equal(test.values, [[3, 4, 5, -3, -3], [5, 6, 7, -5, -5], [9, 10, 11, -9, -9]])
    assert test.keys.tolist() == keys(3, 5, 9).astype(str).tolist()
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 1], [1, 0, 1])
    assert (train.groups.tolist(), test.groups.tolist()) == ([1, 3], [3, 2**64 - 1, 9])
    assert (train.weights.tolist(), test.weights.tolist()) == ([1, 2], [1, 0.5, 1])
    assert cache.load(tmp_path, ["validation"], "logits").values.shape == (0, 2)
    assert train.source == SOURCE

"""Features of several backbones side by side, against what is computed by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from stages.library.common.console import UserError
from stages.library.features import cache, disk_arrays, joined
from stages.library.features.source import Joined, Source
from stages.library.records.preprocessing import Preprocessing

CLASSES = ("cat", "dog")
# Mean square lengths 25 and 1: the second is brought to the first's by 5.
FIRST, SECOND = [[3, 4], [0, 5]], [[1, 0, 0], [0, -1, 0]]


def source(name):
    return Source(name, Preprocessing(32), False, "a" * 64, "f" * 64, CLASSES)


def write(folder, bottleneck, logits=((1, 2), (3, 5)), split="train", keys="xy", labels=(0, 1), made_of=None, **more):
    folder.mkdir(exist_ok=True)
    path, about = folder / f"{split}-00000-of-00001.parquet", made_of or source(folder.name)
    writer = cache.ShardWriter(path, about, len(bottleneck[0]), 2)
    writer.write(list(keys), np.array(labels), np.array(bottleneck, "f4"), np.array(logits, "f4"), **more)
    writer.close()


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "a", FIRST)
    write(tmp_path / "b", SECOND, logits=[[0, 0], [0, 3]])
    return tmp_path


def test_each_block_is_brought_to_the_mean_square_length_of_the_first(folder):
    found = joined.load(folder / "a+b", ["train"], "bottleneck")
    assert found.values.tolist() == [[3, 4, 5, 0, 0], [0, 5, 0, -5, 0]]
    assert found.values.dtype == np.float16
    assert found.source == Joined((source("a"), source("b")), (1.0, 5.0))
    assert (found.source.backbone, found.source.classes) == ("a+b", CLASSES)
    assert (found.keys.tolist(), found.labels.tolist()) == (["x", "y"], [0, 1])
    # The other order: the first one stays what it is.
    found = joined.load(folder / "b+a", ["train"], "bottleneck")
    np.testing.assert_allclose(found.values, np.array([[1, 0, 0, 0.6, 0.8], [0, -1, 0, 0, 1]]), rtol=1e-3)


def test_logits_probabilities_and_both_are_joined_backbone_by_backbone(folder):
    alone = {kind: [cache.load(folder / name, ["train"], kind).values for name in "ab"] for kind in cache.COLUMNS}
    for kind, (first, second) in alone.items():
        found = joined.load(folder / "a+b", ["train"], kind)
        scale = np.sqrt(np.square(first, dtype=float).sum() / np.square(second, dtype=float).sum())
        np.testing.assert_allclose(found.values, np.hstack([first, second * scale]), rtol=1e-3)
        assert found.values.dtype == (np.float32 if kind == "probabilities" else np.float16)
        np.testing.assert_allclose(found.source.scales, [1, scale])


def test_one_backbone_is_what_it_was(folder):
    found, expected = joined.load(folder / "a", ["train"], "joined"), cache.load(folder / "a", ["train"], "joined")
    assert (found.values.tolist(), found.source) == (expected.values.tolist(), source("a"))
    assert found.source.members == (source("a"),)


def test_other_rows_are_scaled_as_those_that_were_trained_on(folder):
    for name in "ab":
        write(folder / name, [[2, 1]], logits=[[1, 1]], split="test", keys="z", labels=[1])
    found = joined.load(folder / "a+b", ["test"], "bottleneck", (1.0, 5.0))
    assert found.values.tolist() == [[2, 1, 10, 5]]
    assert found.source.scales == (1.0, 5.0)
    for name in ("a+b", "a"):
        with pytest.raises(UserError, match=r"must be 3 backbones, as the head was trained on\. Run: dvc repro"):
            joined.load(folder / name, ["test"], "bottleneck", (1.0, 5.0, 2.0))


@pytest.mark.parametrize(
    "other",
    [
        {"keys": "yx"},
        {"keys": "xz"},
        {"labels": (1, 1)},
        {"groups": [1, 1]},
        {"weights": [1, 2]},
        {"made_of": Source("b", Preprocessing(32), False, "", "", ("cat", "cow"))},
    ],
)
def test_features_of_other_images_are_rejected(folder, other):
    write(folder / "b", SECOND, **other)
    with pytest.raises(UserError, match=r"/b has the features of other images than .*/a\. Run: dvc repro"):
        joined.load(folder / "a+b", ["train"], "bottleneck")


def test_a_member_without_features_is_named(folder):
    with pytest.raises(UserError, match=r"/c: shards of 'train' are missing"):
        joined.load(folder / "a+c", ["train"], "bottleneck")


BLOCKS = arrays.arrays(np.float16, (5, 3), elements=st.floats(0.125, 64, width=16))


@given(st.lists(BLOCKS, min_size=2, max_size=4))
def test_all_blocks_have_the_mean_square_length_of_the_first(blocks):
    found = joined.side_by_side(blocks, joined.equal_lengths(blocks)).astype(float)
    lengths = np.square(found).reshape(5, len(blocks), 3).sum(axis=2).mean(axis=0)
    np.testing.assert_allclose(lengths, lengths[0], rtol=2e-3)
    np.testing.assert_array_equal(found[:, :3], blocks[0])


def test_blocks_of_zeros_and_of_no_rows_stay_and_none_overflows():
    zeros, ones = np.zeros((2, 3), np.float16), np.ones((2, 3), np.float16)
    assert joined.equal_lengths([ones, zeros, ones]) == (1, 1, 1)
    assert joined.equal_lengths([zeros, ones]) == (1, 1)
    assert joined.equal_lengths([ones[:0], ones[:0]]) == (1, 1)
    large = np.array([[60000], [1]], np.float16)
    assert joined.side_by_side([large, large], (1.0, 9.0)).tolist() == [[60000, 65504], [1, 9]]


def test_many_rows_are_joined_on_disk(folder, monkeypatch):
    expected = joined.load(folder / "a+b", ["train"], "bottleneck")
    monkeypatch.setattr(cache, "ROWS_PER_BATCH", 1)
    monkeypatch.setattr(disk_arrays, "BYTES_IN_MEMORY", 0)
    found = joined.load(folder / "a+b", ["train"], "bottleneck")
    assert isinstance(found.values, np.memmap)
    assert (found.values.tolist(), found.source) == (expected.values.tolist(), expected.source)


@pytest.mark.parametrize(
    ("scales", "other", "rule"),
    [((1.0,), CLASSES, "`scales` must be as many"), ((1.0, 2.0), ("cat", "cow"), "must be the same in all")],
)
def test_what_can_not_be_joined(scales, other, rule):
    second = Source("b", Preprocessing(32), False, "", "", other)
    with pytest.raises(ValueError, match=rule):
        Joined((source("a"), second), scales)

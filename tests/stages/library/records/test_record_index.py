"""Records read in any order."""

import dataclasses
import tracemalloc

import numpy as np
import pytest

from stages.library.common.console import UserError
from stages.library.records import dataset_file, tfrecord
from stages.library.records import index as record_index
from stages.library.records.tfrecord import Record


@pytest.fixture
def shards(tmp_path):
    paths = tfrecord.shard_paths(tmp_path, "train", 3)
    written: list[Record] = []
    for path, count in zip(paths, (3, 0, 2), strict=True):
        some = [
            Record(f"{len(written) + i:064x}", bytes(10 * i + 1), "png", 1, 1, i, "x", f"{i}.png") for i in range(count)
        ]
        tfrecord.write_shard(path, some)
        written += some
    return paths, written


def test_the_index_has_what_the_shards_have(shards):
    paths, written = shards
    index = record_index.build(paths)
    assert (index.paths, index.counts) == (tuple(paths), (3, 0, 2))
    assert index.keys.astype(str).tolist() == [record.key for record in written]
    assert index.labels.tolist() == [record.label for record in written]
    order = [4, 0, 3, 1, 1, 2]
    found = [tfrecord.parse(paths[0], serialized) for serialized in index.serialized(order)]
    assert found == [written[row] for row in order]


def test_more_shards_than_files_may_be_open(shards, monkeypatch):
    monkeypatch.setattr(record_index, "OPEN_FILES", 1)
    paths, written = shards
    found = record_index.build(paths).serialized([0, 4, 0, 4])
    assert [tfrecord.parse(paths[0], serialized) for serialized in found] == [written[row] for row in (0, 4, 0, 4)]


def test_what_reading_a_record_takes_does_not_grow_with_their_number(shards):
    paths, written = shards
    index = dataclasses.replace(record_index.build(paths), counts=(3, 1_000_000, 2))
    tracemalloc.start()
    try:
        (serialized,) = index.serialized([1])
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
    assert tfrecord.parse(paths[0], serialized) == written[1]


def test_an_index_takes_some_150_bytes_a_record(tmp_path):
    count = 5000
    (path,) = tfrecord.shard_paths(tmp_path, "train", 1)
    tfrecord.write_shard(path, (Record(f"{i:064x}", b"x", "png", 1, 1, 0, "x", f"{i}.png") for i in range(count)))
    record_index.build([path])  # what is made once
    tracemalloc.start()
    try:
        index = record_index.build([path])
        kept, most = (traced / count for traced in tracemalloc.get_traced_memory())
        content = dataset_file.content_sha256(("train", f"{i:064x}", "x") for i in range(count))
        tracemalloc.reset_peak()
        record_index.check(index, {"classes": ["x"], "content_sha256": content}, tmp_path)
        checking = tracemalloc.get_traced_memory()[1] / count - kept
    finally:
        tracemalloc.stop()
    assert kept < 110
    assert most < 200
    assert checking < 300


def test_no_records_at_all(tmp_path):
    (path,) = tfrecord.shard_paths(tmp_path, "test", 1)
    tfrecord.write_shard(path, [])
    index = record_index.build([path])
    assert (index.counts, index.keys.shape, index.labels.shape) == ((0,), (0,), (0,))
    assert list(index.serialized([])) == []


def test_a_flipped_bit_is_found(shards):
    paths, _ = shards
    content = bytearray(paths[2].read_bytes())
    content[-20] ^= 1
    paths[2].write_bytes(content)
    with pytest.raises(UserError, match=r"train-00002-of-00003\.tfrecord is damaged"):
        record_index.build(paths)
    np.testing.assert_array_equal(record_index.build(paths[:2]).counts, (3, 0))

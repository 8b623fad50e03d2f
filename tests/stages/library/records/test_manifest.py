"""The manifest: what stands where in the shards, and records read in any order."""

import dataclasses
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sharded
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.library.common.console import UserError
from stages.library.records import dataset_file, manifest, tfrecord
from stages.library.records.tfrecord import Record
from tests import flips

SPLITS = "train", "validation", "test"


@pytest.fixture
def written(tmp_path):
    """Five records in three training shards, and one test record, which most tests don't read."""
    found = [Record(f"{i:064x}", bytes(10 * i + 1), "png", 1, 1, i % 2, "ab"[i % 2], f"{i}.png") for i in range(6)]
    sharded.write(tmp_path, {"train": [found[:3], [], found[3:5]], "test": [found[5:]]})
    return found


def test_groups_and_weights_are_kept_and_by_default_each_record_is_alone(written, tmp_path):
    assert len(set(manifest.read(tmp_path, ["train", "test"]).groups.tolist())) == len(written)
    groups, weights = [2**64 - 1, 0, 7], [0.5, 1.0, 3e9]
    with manifest.writer(tmp_path) as write:
        write(tmp_path / "train-00000-of-00001.tfrecord", written[:3], groups, weights)
    for path in tmp_path.glob("train-*-of-00003.tfrecord"):
        path.unlink()
    found = manifest.read(tmp_path, ["train"])
    assert (found.groups.tolist(), found.weights.tolist()) == (groups, weights)


SHARDS = st.lists(st.lists(sharded.RECORDS, max_size=3), min_size=1, max_size=3)


@settings(max_examples=30)
@given(splits=st.fixed_dictionaries(dict.fromkeys(SPLITS, SHARDS)), data=st.data())
def test_a_manifest_says_what_a_scan_of_the_shards_finds(splits, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    paths = sharded.write(folder, {split: splits[split] for split in SPLITS})
    left_out = data.draw(st.sampled_from(SPLITS))
    asked = [split for split in SPLITS if split != left_out]
    found = manifest.read(folder, asked[::-1])
    scanned = [list(tfrecord.read_shard(path)) for split in asked for path in paths if path.name.startswith(split)]
    records = [record for shard in scanned for record in shard]
    assert found.counts == tuple(map(len, scanned))
    assert found.names() == [record.filename for record in records]
    assert list(zip(found.keys.astype(str), found.labels, strict=True)) == [(r.key, r.label) for r in records]
    rows = data.draw(st.lists(st.sampled_from(range(len(records))), max_size=6)) if records else []
    assert list(found.records(rows)) == [records[row] for row in rows]


def test_the_same_records_make_the_same_bytes_and_more_shards_than_may_be_open_are_read(written, tmp_path, monkeypatch):
    path = tmp_path / manifest.NAME
    whole = path.read_bytes()
    sharded.write(tmp_path, {"train": [written[:3], [], written[3:5]], "test": [written[5:]]})
    assert path.read_bytes() == whole
    places = [(row["split"], row["shard"]) for row in pq.read_table(path).to_pylist()]
    assert places[-2:] == [("train", "train-00002-of-00003.tfrecord"), ("test", "test-00000-of-00001.tfrecord")]
    monkeypatch.setattr(manifest, "OPEN_FILES", 1)
    assert list(manifest.read(tmp_path, ["train"]).records([0, 4, 0, 4])) == [written[row] for row in (0, 4, 0, 4)]


def test_a_manifest_takes_some_150_bytes_a_record_and_reading_one_takes_no_more(tmp_path, request):
    count = 20_000
    found = [Record(f"{i:064x}", b"x", "png", 1, 1, 0, "x", f"x/{i}.png") for i in range(count)]
    sharded.write(tmp_path, {"train": [found]})
    manifest.read(tmp_path, ["train"])  # what is made once
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    request.addfinalizer(tracemalloc.stop)
    read = manifest.read(tmp_path, ["train"])
    kept, most = tracemalloc.get_traced_memory()
    assert (kept + pa.total_allocated_bytes() - before) / count < 150
    assert most / count < 300
    tracemalloc.reset_peak()
    assert list(read.records([count - 1])) == found[-1:]
    assert tracemalloc.get_traced_memory()[1] - kept < 100_000
    content = dataset_file.content_sha256(("train", f"{i:064x}", "x") for i in range(count))
    tracemalloc.reset_peak()
    read.check({"classes": ["x"], "content_sha256": content})
    assert (tracemalloc.get_traced_memory()[1] - kept) / count < 300


def changed(column, row, value):
    def change(table):
        values = table[column].to_pylist()
        values[row] = value
        return table.set_column(table.schema.get_field_index(column), table.schema.field(column), [values])

    return change


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "is missing, for an earlier version wrote the shards"),
        (
            lambda table: table.drop(["label"]),
            "its columns must be key, filename, split, label, group, weight, shard, offset, length",
        ),
        (lambda table: table.cast(table.schema.set(3, pa.field("label", pa.int32()))), "its columns must be"),
        (lambda table: table.slice(1), "`offset` must be 12 in row 0"),
        (lambda table: table.slice(0, 4), "must end where it does, at"),
        (lambda table: table.take([3, 4, 0, 1, 2]), "in the order of the shards"),
        (lambda table: pa.concat_tables([table] * 90), "can't hold more than"),
        (changed("key", 1, "no key"), "`key` must be a sha256 in hex. Received: no key"),
        (changed("shard", 0, "train-00009-of-00003.tfrecord"), "`offset` must be 12 in row 0"),
        (changed("shard", 4, "train-00001-of-00003.tfrecord"), "in the order of the shards"),
        (changed("offset", 1, -5), "`offset` must be .* in row 1. Received: -5"),
        (changed("length", 4, 1), "must end where it does, at"),
        (changed("weight", 3, 0.0), "`weight` must be finite and > 0. Received: 0"),
        (changed("weight", 0, float("inf")), "`weight` must be finite and > 0. Received: inf"),
        (changed("weight", 0, float("nan")), "`weight` must be finite and > 0. Received: nan"),
        (changed("length", 0, -1), "`length` must be of 0 to"),
        (changed("length", 0, 2**63 - 1), "`length` must be of 0 to"),
        (changed("key", 1, "f" * 64), r"Received: '0+1', class 1"),
        (changed("label", 1, 0), r"Received: '0+1', class 1"),
    ],
)
def test_a_changed_manifest_is_rejected(tmp_path, change, message):
    path = tmp_path / manifest.NAME
    table = pq.read_table(path)
    path.unlink()
    if change:
        pq.write_table(change(table), path)
    with pytest.raises(UserError, match=rf"^.*manifest\.parquet.*{message}.*\. Run: dvc repro (-f )?tfrecord$"):
        list(manifest.read(tmp_path, ["train"]).records([1]))


@pytest.mark.usefixtures("written")
def test_a_flipped_bit_of_the_manifest_is_rejected_or_changes_no_row(tmp_path):
    def read():
        found = manifest.read(tmp_path, ["train"])
        return found.keys, found.labels, found.groups, found.weights, found.offsets, found.lengths, found.names()

    flips.are_found_or_harmless(tmp_path / manifest.NAME, read)


def test_a_damaged_record_is_found_when_it_is_read(written, tmp_path):
    path = tmp_path / "train-00002-of-00003.tfrecord"
    content = path.read_bytes()
    path.write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])
    found = manifest.read(tmp_path, ["train"])
    assert list(found.records([0, 3])) == [written[0], written[3]]
    with pytest.raises(UserError, match=r"train-00002-of-00003\.tfrecord is damaged"):
        list(found.records([4]))
    wrong = dataclasses.replace(found, lengths=found.lengths - 1)
    with pytest.raises(UserError, match=r"train-00000-of-00003\.tfrecord is damaged"):
        list(wrong.records([0]))

import struct
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.library.common.console import UserError
from stages.library.records import tfrecord
from stages.library.records.tfrecord import Record
from tests import sharded

RECORD = Record(
    key="ab" * 32, encoded=b"\x89PNG\x00bytes", format="png", height=7, width=9, label=3, text="猫", filename="猫/1.png"
)


@settings(max_examples=50)
@given(found=st.lists(sharded.RECORDS, max_size=5))
def test_a_round_trip_loses_nothing(found, tmp_path_factory):
    path = tmp_path_factory.mktemp("round") / "shard.tfrecord"
    lengths = tfrecord.write_shard(path, found)
    assert path.stat().st_size == sum(lengths) + tfrecord.FRAME_BYTES * len(found)
    assert list(tfrecord.read_shard(path)) == found


def test_tensorflow_reads_what_we_write_and_we_what_it_writes(tmp_path):
    import tensorflow as tf

    written = [RECORD, replace(RECORD, label=4)]
    tfrecord.write_shard(tmp_path / "ours", written)
    serialized = [item.numpy() for item in tf.data.TFRecordDataset(str(tmp_path / "ours"))]
    feature, second = (tf.train.Example.FromString(item).features.feature for item in serialized)
    texts = {"key": "ab" * 32, "format": "png", "class/text": "猫", "filename": "猫/1.png"}
    contents = {name: text.encode() for name, text in texts.items()} | {"encoded": RECORD.encoded}
    numbers = {"height": 7, "width": 9, "class/label": 3}
    assert len(feature) == len(contents) + len(numbers)
    assert {name: feature[f"image/{name}"].bytes_list.value[0] for name in contents} == contents
    assert {name: feature[f"image/{name}"].int64_list.value[0] for name in numbers} == numbers
    assert second["image/class/label"].int64_list.value[0] == 4
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        for item in serialized:
            writer.write(item)
    assert (tmp_path / "theirs").read_bytes() == (tmp_path / "ours").read_bytes()
    assert list(tfrecord.read_shard(tmp_path / "theirs")) == written


def test_every_flipped_bit_and_every_truncation_is_found(tmp_path):
    path = tmp_path / "shard.tfrecord"
    tfrecord.write_shard(path, [replace(RECORD, encoded=b"x")])
    whole = path.read_bytes()
    flipped = [whole[:n] + bytes([whole[n] ^ 1]) + whole[n + 1 :] for n in range(len(whole))]
    for damaged in flipped + [whole[:length] for length in range(1, len(whole))]:
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="damaged"):
            list(tfrecord.read_shard(path))


EXAMPLE = tfrecord._serialize(RECORD)
FRAMED = tfrecord.framed(EXAMPLE)


@pytest.mark.parametrize(
    "frame",
    [
        tfrecord.framed(b""),  # a message of nothing
        tfrecord.framed(b"\xff" * 9),  # no message
        tfrecord.framed(EXAMPLE[:-3]),
        tfrecord.framed(EXAMPLE.replace(b"abababab", bytes(range(248, 256)), 1)),  # the key is no text
        tfrecord.framed(EXAMPLE.replace("猫".encode(), b"\xff\xff\xff", 1)),
        # Lengths beyond the file, which take no memory.
        *(tfrecord._with_crc(struct.pack("<Q", n)) + FRAMED[12:] for n in (2**63 - 1, 2**64 - 1, 2**40, len(FRAMED))),
    ],
)
def test_anything_else_with_right_checksums_is_rejected(tmp_path, frame):
    path = tmp_path / "shard.tfrecord"
    path.write_bytes(FRAMED + frame)
    assert frame != FRAMED
    with pytest.raises(UserError, match=r"^[^\n]*(damaged|not a shard)[^\n]*\. Run: dvc repro -f tfrecord$"):
        list(tfrecord.read_shard(path))


def test_a_missing_shard_is_named(tmp_path):
    paths = tfrecord.shard_paths(tmp_path, "train", 3)
    for path in paths:
        tfrecord.write_shard(path, [])
    assert tfrecord.find_shards(tmp_path, "train") == paths
    paths[1].unlink()
    with pytest.raises(UserError, match="train-00001-of-00003"):
        tfrecord.find_shards(tmp_path, "train")
    with pytest.raises(UserError, match="no shard of split 'test'"):
        tfrecord.find_shards(tmp_path, "test")

"""Readers of our own formats on bytes that are no longer ours, right checksums included: rejected in one line."""

import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.library.common.console import UserError
from stages.library.features import cache
from stages.library.records import tfrecord
from tests.stages.library.features.test_cache import write
from tests.stages.library.records.test_records import RECORD

ONE_LINE = r"^[^\n]*\. Run: dvc repro -f (tfrecord|bottleneck-extract)$"


def frame(content, length=None):
    """A record of a shard with right checksums; its stated length may be a lie."""
    stated = struct.pack("<Q", len(content) if length is None else length)
    return tfrecord._with_crc(stated) + tfrecord._with_crc(content)


EXAMPLE = tfrecord._serialize(RECORD)


@pytest.mark.parametrize(
    "content",
    [
        b"",  # a message of nothing
        b"\xff" * 9,  # no message
        EXAMPLE[:-3],
        EXAMPLE.replace(b"abababab", b"\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8", 1),  # the key is no text
        EXAMPLE.replace("猫".encode(), b"\xff\xff\xff", 1),
    ],
)
def test_a_record_of_anything_else_with_right_checksums_is_rejected(tmp_path, content):
    path = tmp_path / "shard.tfrecord"
    path.write_bytes(frame(EXAMPLE) + frame(content))
    assert content != EXAMPLE
    with pytest.raises(UserError, match=ONE_LINE):
        list(tfrecord.read_shard(path))


@pytest.mark.parametrize("length", [2**63 - 1, 2**64 - 1, 2**40, len(EXAMPLE) + 1])
def test_a_stated_length_beyond_the_file_takes_no_memory(tmp_path, length):
    path = tmp_path / "shard.tfrecord"
    path.write_bytes(frame(EXAMPLE) + frame(EXAMPLE, length))
    with pytest.raises(UserError, match=r"damaged \(checksum or length\)"):
        list(tfrecord.read_shard(path))


def feature_file(tmp_path):
    write(tmp_path / "b", "train", 6)
    return tmp_path / "b" / "train-00005-of-00006.parquet"


def load(path):
    return cache.load(path.parent, ["train"], "joined")


def test_a_flipped_bit_of_the_feature_cache_is_rejected_or_changes_no_feature(tmp_path):
    path = feature_file(tmp_path)
    expected, whole = load(path), path.read_bytes()
    bits, rejected = np.random.default_rng(0).integers(0, 8, len(whole)), 0
    for position in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << bits[position]
        path.write_bytes(damaged)
        try:
            found = load(path)
        except UserError as error:
            rejected += "\n" not in str(error)
        else:
            assert found.source == expected.source
            for column in ("keys", "labels", "values"):
                np.testing.assert_array_equal(getattr(found, column), getattr(expected, column), str(position))
    assert rejected > len(whole) // 3 / 4


def test_a_feature_cache_that_does_not_say_what_made_it_or_has_other_columns_is_rejected(tmp_path):
    path = feature_file(tmp_path)
    table = pq.read_table(path)
    others = [b"{}", b"[]", b"null", b'{"classes": 3}', b'{"classes": [], "more": 1}', b"\xff"]
    variants = [table.replace_schema_metadata({cache.METADATA_KEY: metadata}) for metadata in others]
    for kind in (pa.float32(), pa.list_(pa.float16()), pa.list_(pa.float32(), 3)):
        values = pa.array([1.0 if kind == pa.float32() else [1, 2, 3]] * len(table), kind)
        changed = table.set_column(2, "bottleneck", values)
        variants.append(changed.replace_schema_metadata(table.schema.metadata))
    for variant in variants:
        pq.write_table(variant, path)
        with pytest.raises(UserError, match=ONE_LINE):
            load(path)


def test_a_feature_cache_whose_footer_counts_other_rows_is_rejected(tmp_path):
    path = feature_file(tmp_path)
    whole, tried = path.read_bytes(), set()
    (length,) = struct.unpack("<I", whole[-8:-4])
    for position in range(len(whole) - 8 - length, len(whole) - 8):
        for change in (2, 4) if whole[position] == 2 * 5 else ():  # the count is a zigzag varint
            damaged = bytearray(whole)
            damaged[position] ^= change
            path.write_bytes(damaged)
            try:
                count = pq.read_metadata(path).num_rows
            except (OSError, pa.ArrowException):
                continue
            if count != 5:
                tried.add(count)
                with pytest.raises(UserError, match=ONE_LINE):
                    load(path)
    assert min(tried) < 5 < max(tried)

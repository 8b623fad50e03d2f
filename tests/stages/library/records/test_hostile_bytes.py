"""The feature cache on bytes that are no longer ours, right checksums included: rejected in one line."""

import struct

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.library.common.console import UserError
from stages.library.features import cache
from tests import flips
from tests.stages.library.features.test_cache import write

ONE_LINE = r"^[^\n]*\. Run: dvc repro -f bottleneck-extract$"


@pytest.fixture
def path(tmp_path):
    (tmp_path / "b").mkdir()
    write(tmp_path / "b", "train", 6)
    return tmp_path / "b" / "train-00005-of-00006.parquet"


def load(path):
    return cache.load(path.parent, ["train"], "joined")


def test_a_flipped_bit_of_the_feature_cache_is_rejected_or_changes_no_feature(path):
    source = load(path).source

    def read():
        found = load(path)
        return found.keys, found.labels, found.values, found.source == source

    flips.are_found_or_harmless(path, read)


def test_a_feature_cache_that_does_not_say_what_made_it_or_has_other_columns_is_rejected(path):
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


def test_a_feature_cache_whose_footer_counts_other_rows_is_rejected(path):
    whole, tried = path.read_bytes(), set()
    (length,) = struct.unpack("<I", whole[-8:-4])
    for position in range(len(whole) - 8 - length, len(whole) - 8):
        for change in (2, 4) if whole[position] == 2 * 5 else ():  # the count is a zigzag varint
            path.write_bytes(whole[:position] + bytes([whole[position] ^ change]) + whole[position + 1 :])
            try:
                count = pq.read_metadata(path).num_rows
            except (OSError, pa.ArrowException):
                continue
            if count != 5:
                tried.add(count)
                with pytest.raises(UserError, match=ONE_LINE):
                    load(path)
    assert min(tried) < 5 < max(tried)

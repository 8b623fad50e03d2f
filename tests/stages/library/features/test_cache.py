import base64
import struct
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from stages.library.common.console import UserError
from stages.library.features import cache
from stages.library.features.cache import ShardWriter
from stages.library.features.source import Source
from stages.library.records.preprocessing import Preprocessing
from stages.library.scoring import probabilities
from tests import flips

SOURCE = Source("tiny", Preprocessing(32, 0.875, "bicubic"), True, "a" * 64, "f" * 64, ("Bär", "犬"))
FLOAT16_MAX = 65504
ONE_LINE = r"^[^\n]*\. Run: dvc repro -f bottleneck-extract$"


def write(folder, split, shards, source=SOURCE, seed=0):
    """Writes shards of 0, 1, 2, ... rows; returns their blocks of two: keys, labels, features and logits."""
    rng, blocks = np.random.default_rng(seed), []
    for shard in range(shards):
        writer = ShardWriter(folder / f"{split}-{shard:05d}-of-{shards:05d}.parquet", source, 3, 2)
        for start in range(0, shard, 2):
            n = min(2, shard - start)
            keys, labels = [f"{shard}{i}" for i in range(n)], rng.integers(0, 2, n)
            blocks.append((keys, labels, rng.normal(size=(n, 3)), rng.normal(size=(n, 2))))
            writer.write(*blocks[-1])
        writer.close()
    return blocks


def assert_loads(folder, splits, blocks, source=SOURCE):
    """Compares what is read with what was written, to the bit; returns the logits."""
    keys, labels, bottleneck, logits = (np.concatenate(column) for column in zip(*blocks, strict=True))
    bottleneck, logits = bottleneck.astype(np.float16), logits.astype(np.float16)
    for kind, expected in (("bottleneck", bottleneck), ("logits", logits), ("joined", np.hstack([bottleneck, logits]))):
        features = cache.load(folder, splits, kind)
        assert (features.keys.tolist(), features.labels.tolist()) == (keys.tolist(), labels.tolist())
        assert (str(features.values.dtype), features.values.shape) == ("float16", expected.shape)
        assert (features.values.tobytes(), features.source) == (expected.tobytes(), source)
        assert set(features.splits) <= set(splits)
    return logits


def test_rows_come_in_the_order_asked_for_rounded_to_float16(tmp_path):
    splits = ["validation", "train"]
    logits = assert_loads(tmp_path, splits, write(tmp_path, "validation", 3, seed=1) + write(tmp_path, "train", 6))
    exponentials = np.exp(logits.astype(np.float64))
    features = cache.load(tmp_path, splits, "probabilities")
    np.testing.assert_allclose(features.values, exponentials / exponentials.sum(axis=1, keepdims=True), rtol=1e-5)
    assert features.splits.tolist() == ["validation"] * 3 + ["train"] * 15


def test_groups_and_weights_are_kept_and_by_default_each_image_is_alone(tmp_path):
    groups, weights = np.array([2**64 - 1, 0, 7], np.uint64), np.array([0.25, 1, 3e9])
    for split, more in (("train", (groups, weights)), ("test", ())):
        writer = ShardWriter(tmp_path / f"{split}-00000-of-00001.parquet", SOURCE, 3, 2)
        writer.write(["a", "b", "a"], np.zeros(3, int), np.ones((3, 3)), np.ones((3, 2)), *more)
        writer.close()
    kept, alone = (cache.load(tmp_path, [split], "logits") for split in ("train", "test"))
    assert (kept.groups.tolist(), kept.weights.tolist()) == (groups.tolist(), weights.tolist())
    assert [str(column.dtype) for column in (kept.groups, kept.weights)] == ["uint64", "float64"]
    assert alone.groups[0] == alone.groups[2] != alone.groups[1]
    assert alone.weights.tolist() == [1, 1, 1]
    for wrong in (0.0, -1.0, np.inf, np.nan):
        writer = ShardWriter(tmp_path / "train-00000-of-00001.parquet", SOURCE, 3, 2)
        writer.write(["a"], np.zeros(1, int), np.ones((1, 3)), np.ones((1, 2)), [1], [wrong])
        writer.close()
        with pytest.raises(UserError, match=r"`weight` must be finite and > 0"):
            cache.load(tmp_path, ["train"], "logits")


def test_the_schema_is_what_the_design_says(tmp_path):
    write(tmp_path, "train", 2)
    schema = pq.read_schema(tmp_path / "train-00000-of-00002.parquet")
    assert [(field.name, str(field.type)) for field in schema] == [
        ("key", "string"),
        ("label", "int32"),
        ("group", "uint64"),
        ("weight", "double"),
        ("bottleneck", "fixed_size_list<element: halffloat not null>[3]"),
        ("logits", "fixed_size_list<element: halffloat not null>[2]"),
    ]


def test_weights_without_a_top_leave_no_logits_and_what_needs_them_says_so(tmp_path):
    path = tmp_path / "train-00000-of-00001.parquet"
    writer = ShardWriter(path, SOURCE, 3, 0)
    writer.write(["a", "b"], np.zeros(2, int), np.arange(6).reshape(2, 3), np.empty((2, 0)))
    writer.close()
    assert pq.read_schema(path).names == ["key", "label", "group", "weight", "bottleneck"]
    assert cache.load(tmp_path, ["train"], "bottleneck").values.tolist() == [[0, 1, 2], [3, 4, 5]]
    for kind in ("logits", "probabilities", "joined"):
        message = (
            rf"`features` must be bottleneck where there are no logits.* tiny has no top\. Received: '{kind}'\. Or set "
        )
        with pytest.raises(UserError, match=message + r"`extract\.weights\.tiny`"):
            cache.load(tmp_path, ["train"], kind)


KEYS = st.integers(0, 2**256 - 1).map(lambda number: f"{number:064x}")
ANY_FLOAT16 = st.floats(-65504, 65504, width=16)


@settings(max_examples=30)
@given(data=st.data(), sizes=st.lists(st.integers(0, 4), min_size=1, max_size=3))
def test_a_round_trip_loses_nothing(tmp_path_factory, data, sizes):
    folder = tmp_path_factory.mktemp("round")
    name = data.draw(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9))
    geometry = data.draw(st.sampled_from(["crop", "squash", "pad"]))
    bars = data.draw(st.tuples(*[st.floats(0, 255)] * 3))
    prepared = Preprocessing(32, data.draw(st.floats(0.1, 1)), "bicubic", geometry, bars)
    source = replace(SOURCE, classes=(name, f"not {name}"), preprocessing=prepared)
    writer = ShardWriter(folder / "train-00000-of-00001.parquet", source, 3, 2)
    blocks = []
    for n in sizes:
        keys = data.draw(st.lists(KEYS, min_size=n, max_size=n))
        labels = data.draw(arrays.arrays(np.int64, (n,), elements=st.integers(0, 2**31 - 1)))
        values = (data.draw(arrays.arrays(np.float16, (n, width), elements=ANY_FLOAT16)) for width in (3, 2))
        blocks.append((keys, labels, *values))
        writer.write(*blocks[-1])
    writer.close()
    assert_loads(folder, ["train"], blocks, source)


def test_what_a_network_in_mixed_precision_overflowed_to_saturates_too():
    values = np.array([np.inf, -np.inf, 1.5, FLOAT16_MAX], np.float16)
    assert cache.quantize(values).tolist() == [FLOAT16_MAX, -FLOAT16_MAX, 1.5, FLOAT16_MAX]
    assert cache.quantize(values[2:]).base is values  # what is in range is not copied


@pytest.mark.parametrize("kind", cache.COLUMNS)
def test_features_that_are_not_finite_are_an_error_that_names_the_image(tmp_path, kind):
    path = tmp_path / "train-00000-of-00001.parquet"
    writer = ShardWriter(path, SOURCE, 3, 2)
    values = np.ones((3, 3), np.float32)
    values[1] = np.nan
    writer.write([f"{number}" * 64 for number in range(3)], np.zeros(3, np.int64), values, values[:, :2])
    writer.close()
    with pytest.raises(
        UserError, match=rf"^{path}: the features of 1 images or more .* {'1' * 64}\. Choose other .*run: dvc"
    ):
        cache.load(tmp_path, ["train"], kind)


@settings(max_examples=50)
@given(arrays.arrays(np.float32, (4,), elements=st.floats(-1e9, 1e9, width=32)))
def test_values_beyond_float16_saturate(values):
    saturated = np.clip(values, -FLOAT16_MAX, FLOAT16_MAX)
    np.testing.assert_allclose(cache.quantize(values), saturated, rtol=1e-3, atol=1e-7)


@settings(max_examples=50)
@given(arrays.arrays(np.float16, (3, 4), elements=st.floats(-60000, 60000, width=16)))
def test_softmax_of_any_logits_is_a_distribution(logits):
    np.testing.assert_allclose(probabilities.softmax(logits).sum(axis=1), 1, rtol=1e-5)


def test_missing_damaged_and_mixed_shards_are_errors(tmp_path):
    def rejected(splits, message):
        with pytest.raises(UserError, match=message):
            cache.load(tmp_path, splits, "logits")

    write(tmp_path, "train", 3)
    rejected(["test"], "shards of 'test' are missing")
    write(tmp_path, "validation", 2, source=replace(SOURCE, backbone="other", fingerprint="e" * 64))
    rejected(["train", "validation"], "different backbones or classes")
    path = tmp_path / "train-00001-of-00003.parquet"
    path.write_bytes(path.read_bytes()[:-10])
    rejected(["train"], r"train-00001-of-00003\.parquet can't be read")
    path = path.rename(tmp_path / "train-00001-of-00004.parquet")
    rejected(["train"], "shards of 'train' are missing")
    path.unlink()
    rejected(["train"], "shards of 'train' are missing")


def one_shard(folder, rows, width):
    path = folder / "train-00000-of-00001.parquet"
    writer = ShardWriter(path, SOURCE, width, 2)
    writer.write([str(row) for row in range(rows)], np.zeros(rows, int), np.ones((rows, width)), np.ones((rows, 2)))
    writer.close()
    return path


def test_a_width_that_the_file_is_too_short_for_takes_no_memory(tmp_path):
    width, wide = 123_457, 2**30
    path = one_shard(tmp_path, 1, width)
    stored = pq.read_metadata(path).metadata[b"ARROW:schema"]
    schema = base64.b64decode(stored)
    assert schema.count(np.int32(width).tobytes()) == 1
    changed = schema.replace(np.int32(width).tobytes(), np.int32(wide).tobytes())
    path.write_bytes(path.read_bytes().replace(stored, base64.b64encode(changed)))
    assert pq.read_metadata(path).schema.to_arrow_schema().field("bottleneck").type.list_size == wide
    with pytest.raises(UserError, match=r"its rows are shorter than their numbers"):
        cache.load(tmp_path, ["train"], "bottleneck")


def test_a_footer_on_which_pyarrow_ends_its_process_is_rejected(tmp_path):
    """pyarrow's metadata of a column aborts on it; checks.fuzz found such a footer in 1.3 million variants."""
    whole, damaged = b"\x3c\x16\x0a\x19\x06\x19", b"\x3c\x16\x0a\x19\x26\x19"  # the histogram of a column's nesting
    path = one_shard(tmp_path, 5, 4)
    content = path.read_bytes()
    assert content.count(whole) == 1
    path.write_bytes(content.replace(whole, damaged))
    with pytest.raises(UserError, match=r"can't be read \("):
        cache.load(tmp_path, ["train"], "bottleneck")


@pytest.fixture
def path(tmp_path):
    write(tmp_path, "train", 6)
    return tmp_path / "train-00005-of-00006.parquet"


def load(path):
    return cache.load(path.parent, ["train"], "joined")


@pytest.mark.slow
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

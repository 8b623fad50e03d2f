"""The feature store: parts that are whole or absent, and never trusted blindly."""

import io
import json
import multiprocessing
import os
import signal
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.library.common import artifacts
from stages.library.extraction import feature_store
from stages.library.extraction.feature_store import FeatureStore, Rows

WIDTHS = 5, 3


def key(number):
    return f"{number:064x}".encode()


def rows(*numbers):
    """Features that follow from the key."""
    values = np.array(numbers, np.float16)[:, None]
    return Rows(
        np.array([key(number) for number in numbers], "S64"),
        values + np.arange(5, dtype=np.float16),
        -values * 2 ** np.arange(3, dtype=np.float16),
    )


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "store", {"backbone": "tiny"}, *WIDTHS)


def by_key(parts):
    return {
        k: (tuple(bottleneck.tolist()), tuple(logits.tolist()))
        for part in parts
        for k, bottleneck, logits in zip(part.keys.tolist(), part.bottleneck, part.logits, strict=True)
    }


def content(store):
    return by_key(store.read(store.parts()))


def expected(*numbers):
    return by_key([rows(*numbers)])


def test_what_is_put_is_read(store):
    assert store.parts() == []
    assert (store.keys([]).dtype, store.keys([]).tolist()) == (np.dtype("S64"), [])
    store.put(rows(1, 2), "digits")
    (first,) = store.parts()
    store.put(rows(3), "digits")
    assert store.keys([first]).tolist() == [key(1), key(2)]
    assert sorted(store.keys(store.parts()).tolist()) == [key(1), key(2), key(3)]
    assert content(store) == expected(1, 2, 3)


def test_a_part_is_named_by_its_hash_and_says_what_made_it(store, tmp_path):
    store.put(rows(1), "digits")
    (part,) = store.parts()
    assert artifacts.sha256_file(part) == part.stem
    assert pq.read_metadata(part).metadata[feature_store.DATASET] == b"digits"
    assert json.loads((tmp_path / "store" / "source.json").read_text(encoding="utf-8")) == {"backbone": "tiny"}
    store.put(rows(1), "digits")
    assert store.parts() == [part]
    assert {path.name for path in part.parent.iterdir()} == {part.name, "source.json"}


def test_parts_are_compressed_and_have_no_dictionaries_or_statistics(store):
    store.put(rows(1, 2, 3), "digits")
    metadata = pq.read_metadata(store.parts()[0]).row_group(0)
    for number in range(metadata.num_columns):
        column = metadata.column(number)
        assert (column.compression, column.has_dictionary_page, column.is_stats_set) == ("ZSTD", False, False)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "other"])
def test_a_damaged_part_is_removed_and_the_others_are_read(store, damage, capsys):
    store.put(rows(1), "digits")
    (part,) = store.parts()
    store.put(rows(2), "digits")
    whole = part.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    part.write_bytes(
        {"flip": bytes(flipped), "cut": whole[:-3], "empty": b"", "other": b"PAR1 no parquet PAR1"}[damage]
    )
    store.keys(store.parts())
    assert content(store) == expected(2)
    assert f"{part} is damaged" in capsys.readouterr().out
    assert not part.exists()


def test_a_part_of_other_widths_is_damaged(store, tmp_path):
    other = FeatureStore(tmp_path / "store", {"backbone": "tiny"}, 4, 3)
    some = rows(1)
    other.put(Rows(some.keys, some.bottleneck[:, :4], some.logits), "digits")
    assert content(store) == {}


def test_a_part_that_vanishes_is_left_out_in_silence(store, capsys):
    store.put(rows(1), "digits")
    parts = store.parts()
    parts[0].unlink()
    assert list(store.read(parts)) == []
    assert len(store.keys(parts)) == 0
    assert capsys.readouterr().out == ""


def test_use_is_noted_by_the_time_of_a_file(store, tmp_path):
    store.mark_used()
    assert not (tmp_path / "store").exists()
    store.put(rows(1), "digits")
    source = tmp_path / "store" / "source.json"
    os.utime(source, (0, 0))
    store.mark_used()
    assert time.time() - source.stat().st_mtime < 1000


def _put_many(folder, start, parts):
    store = FeatureStore(folder, {"backbone": "tiny"}, *WIDTHS)
    for number in range(start, start + parts):
        store.put(rows(number, number + 1), "digits")


def test_several_processes_write_at_once(store, tmp_path):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_put_many, args=(tmp_path / "store", start, 20)) for start in (0, 10, 20)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert content(store) == expected(*range(41))


def test_a_killed_writer_leaves_whole_parts_only(store, tmp_path, capsys):
    context = multiprocessing.get_context("spawn")
    for wait_seconds in (0.0, 0.01, 0.03):
        writer = context.Process(target=_put_many, args=(tmp_path / "store", 0, 10_000))
        writer.start()
        before = len(store.parts())
        while len(store.parts()) == before and writer.is_alive():
            time.sleep(0.001)
        time.sleep(wait_seconds)
        assert writer.pid
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        found = content(store)
        assert found == expected(*range(len(found)))
    assert "damaged" not in capsys.readouterr().out
    store.put(rows(1), "digits")
    assert [path.name for path in (tmp_path / "store").iterdir() if path.name.endswith(".partial")] == []


@pytest.mark.parametrize("damaged", [key(2), b"\xff" * 64, "é".encode() * 32], ids=["text", "no text", "no ASCII"])
def test_a_part_of_another_schema_is_computed_again_though_it_hashes_to_its_name(store, damaged):
    store.put(rows(1), "digits")
    (good,) = store.parts()
    content_of_it = good.read_bytes()
    table = pq.read_table(io.BytesIO(content_of_it))
    keys = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(np.array([0, 64], np.int32)), pa.py_buffer(damaged)]
    )
    sink = io.BytesIO()
    pq.write_table(table.set_column(0, "key", keys), sink)
    bad = good.with_name(f"{artifacts.sha256_bytes(sink.getvalue())}.parquet")
    bad.write_bytes(sink.getvalue())
    assert store.keys(store.parts()).tolist() == [key(1)]
    assert content(store) == expected(1)
    assert store.parts() == [good]

"""The feature store: parts that are whole or absent, and never trusted blindly."""

import io
import json
import multiprocessing
import os
import signal
import threading
import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.library.common import artifacts
from stages.library.extraction import feature_store
from stages.library.extraction.feature_store import FeatureStore, Rows


def key(number):
    return f"{number:064x}".encode()


def rows(*numbers):
    """Features that follow from the key."""
    values = np.array(numbers, np.float16)[:, None]
    keys = np.array([key(number) for number in numbers], "S64")
    return Rows(keys, values + np.arange(5, dtype=np.float16), -values * 2 ** np.arange(3, dtype=np.float16))


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path, {"backbone": "tiny"}, 5, 3)


def numbers(store):
    """Returns the numbers of the keys that are read, after comparing their features."""
    found = set()
    for part in store.read(store.parts()):
        some = [int(key, 16) for key in part.keys]
        for field, expected in vars(rows(*some)).items():
            np.testing.assert_array_equal(getattr(part, field), expected, strict=True)
        found.update(some)
    return found


def test_what_is_put_is_read(store):
    assert store.parts() == []
    assert (store.keys([]).dtype, store.keys([]).tolist()) == (np.dtype("S64"), [])
    store.put(rows(1, 2), "digits")
    (first,) = store.parts()
    store.put(rows(3), "digits")
    assert store.keys([first]).tolist() == [key(1), key(2)]
    assert sorted(store.keys(store.parts()).tolist()) == [key(1), key(2), key(3)]
    assert numbers(store) == {1, 2, 3}


def test_a_part_is_named_by_its_hash_says_what_made_it_and_is_compressed_without_statistics(store, tmp_path):
    store.put(rows(1, 2, 3), "digits")
    (part,) = store.parts()
    assert artifacts.sha256_file(part) == part.stem
    assert json.loads((tmp_path / "source.json").read_text(encoding="utf-8")) == {"backbone": "tiny"}
    store.put(rows(1, 2, 3), "digits")
    assert {path.name for path in tmp_path.iterdir()} == {part.name, "source.json"}
    metadata = pq.read_metadata(part)
    assert metadata.metadata[feature_store.DATASET] == b"digits"
    for number in range(3):
        column = metadata.row_group(0).column(number)
        assert (column.compression, column.has_dictionary_page, column.is_stats_set) == ("ZSTD", False, False)


def test_batches_are_joined_to_parts_of_a_number_of_images_or_of_seconds(store, monkeypatch):
    monkeypatch.setattr(feature_store, "ROWS_PER_PART", 4)
    assert list(store.add([rows(1, 2), rows(3, 4), rows(5), rows(6)], "digits")) == [2, 2, 1, 1]
    assert sorted(len(store.keys([part])) for part in store.parts()) == [2, 4]
    assert numbers(store) == {1, 2, 3, 4, 5, 6}
    assert {pq.read_metadata(part).metadata[feature_store.DATASET] for part in store.parts()} == {b"digits"}
    monkeypatch.setattr(feature_store, "SECONDS_PER_PART", 0)
    assert list(store.add([rows(7), rows(8)], "digits")) == [1, 1]
    assert sorted(len(store.keys([part])) for part in store.parts()) == [1, 1, 2, 4]


def test_batches_come_while_a_part_is_written(store, monkeypatch):
    monkeypatch.setattr(feature_store, "ROWS_PER_PART", 2)
    put, third, waited = store.put, threading.Event(), []

    def slow(some, dataset):
        waited.append(third.wait(10))
        put(some, dataset)

    def batches():
        yield rows(1, 2)
        yield rows(3)
        third.set()
        yield rows(4)

    monkeypatch.setattr(store, "put", slow)
    assert list(store.add(batches(), "digits")) == [2, 1, 1]
    assert waited == [True, True]
    assert numbers(store) == {1, 2, 3, 4}


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_what_stops_a_part_from_being_written_stops_the_work(store, monkeypatch, failing):
    monkeypatch.setattr(feature_store, "ROWS_PER_PART", 1)
    put, tried = store.put, []

    def full(some, dataset):
        tried.append(some)
        if len(tried) == failing:
            raise OSError(28, "No space left on device")
        put(some, dataset)

    monkeypatch.setattr(store, "put", full)
    with pytest.raises(OSError, match="No space left"):
        list(store.add([rows(1), rows(2), rows(3)], "digits"))
    assert len(store.parts()) == failing - 1


def with_keys(whole, text):
    """The part with a column of text, which need not be any, in place of keys."""
    ends = pa.py_buffer(np.array([0, len(text)], np.int32))
    keys = pa.Array.from_buffers(pa.string(), 1, [None, ends, pa.py_buffer(text)])
    sink = io.BytesIO()
    pq.write_table(pq.read_table(io.BytesIO(whole)).set_column(0, "key", keys), sink)
    return sink.getvalue()


@pytest.mark.parametrize("hashes_to_its_name", [False, True])
@pytest.mark.parametrize(
    "damaged",
    [
        lambda whole: whole[:-3],
        lambda whole: b"",
        lambda whole: b"PAR1 no parquet PAR1",
        lambda whole: with_keys(whole, key(2)),
        lambda whole: with_keys(whole, b"\xff" * 64),
        lambda whole: with_keys(whole, "é".encode() * 32),
    ],
)
def test_a_damaged_part_is_removed_and_the_others_are_read(store, damaged, hashes_to_its_name, capsys):
    store.put(rows(2), "digits")
    (good,) = store.parts()
    written = damaged(good.read_bytes())
    bad = good.with_name(f"{artifacts.sha256_bytes(written) if hashes_to_its_name else 'f' * 64}.parquet")
    bad.write_bytes(written)
    assert store.keys(store.parts()).tolist() == [key(2)]
    assert numbers(store) == {2}
    assert f"{bad} is damaged" in capsys.readouterr().out
    assert store.parts() == [good]


def test_a_part_with_a_flipped_bit_or_of_other_widths_is_damaged(store, tmp_path):
    store.put(rows(1), "digits")
    (part,) = store.parts()
    flipped = bytearray(part.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    part.write_bytes(flipped)
    FeatureStore(tmp_path, {}, 4, 3).put(replace(rows(2), bottleneck=np.zeros((1, 4), np.float16)), "digits")
    assert numbers(store) == set()
    assert store.parts() == []


def test_a_part_that_vanishes_is_left_out_in_silence(store, capsys):
    store.put(rows(1), "digits")
    parts = store.parts()
    parts[0].unlink()
    assert list(store.read(parts)) == []
    assert len(store.keys(parts)) == 0
    assert capsys.readouterr().out == ""


def test_use_is_noted_by_the_time_of_a_file(store, tmp_path):
    store.mark_used()
    assert not list(tmp_path.iterdir())
    store.put(rows(1), "digits")
    source = tmp_path / "source.json"
    os.utime(source, (0, 0))
    store.mark_used()
    assert time.time() - source.stat().st_mtime < 1000


def _put_many(store, start, parts):
    for number in range(start, start + parts):
        store.put(rows(number, number + 1), "digits")


def writing(store, start, parts):
    process = multiprocessing.get_context("spawn").Process(target=_put_many, args=(store, start, parts))
    process.start()
    return process


def test_several_processes_write_at_once(store):
    for writer in [writing(store, start, 20) for start in (0, 10, 20)]:
        writer.join()
        assert writer.exitcode == 0
    assert numbers(store) == set(range(41))


def test_a_killed_writer_leaves_whole_parts_only(store, tmp_path, capsys):
    for wait_seconds in (0.0, 0.01, 0.03):
        writer, before = writing(store, 0, 10_000), len(store.parts())
        while len(store.parts()) == before and writer.is_alive():
            time.sleep(0.001)
        time.sleep(wait_seconds)
        writer.kill()
        writer.join()
        assert writer.exitcode == -signal.SIGKILL
        found = numbers(store)
        assert found == set(range(len(found)))
    assert "damaged" not in capsys.readouterr().out
    store.put(rows(1), "digits")
    assert not list(tmp_path.glob("*.partial"))

import errno
import hashlib
import multiprocessing
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from stages.library import artifacts


def test_hashes_of_bytes_and_files_agree(tmp_path):
    content = b"x" * 3_000_000
    (tmp_path / "file").write_bytes(content)
    expected = hashlib.sha256(content).hexdigest()
    assert artifacts.sha256_bytes(content) == artifacts.sha256_file(tmp_path / "file") == expected


def test_canonical_json_ignores_the_order_of_keys_and_refuses_nan():
    assert artifacts.canonical_json({"b": 1, "a": "ü"}) == '{\n  "a": "ü",\n  "b": 1\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        artifacts.canonical_json({"a": float("nan")})


def fail_within(context, write):
    def fail():
        with context as partial:
            write(partial)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()


def test_a_file_is_whole_or_absent(tmp_path):
    path = tmp_path / "deep" / "file.json"
    fail_within(artifacts.new_file(path), lambda partial: partial.write_text("half"))
    assert list(tmp_path.rglob("*.*")) == []
    artifacts.write_json(path, [1])
    assert artifacts.read_json(path) == [1]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_folder_is_whole_or_what_it_was(tmp_path):
    folder = tmp_path / "out"
    with artifacts.new_folder(folder) as partial:
        (partial / "a").write_text("1")
    fail_within(artifacts.new_folder(folder), lambda partial: (partial / "b").write_text("2"))
    assert [path.name for path in folder.iterdir()] == ["a"]
    (tmp_path / ".out.partial").mkdir()  # as a killed run leaves it
    (tmp_path / ".out.partial" / "stale").write_text("x")
    with artifacts.new_folder(folder) as partial:
        (partial / "c").write_text("3")
    assert [path.name for path in folder.iterdir()] == ["c"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def _replace_and_die(path, victim):
    rename = Path.rename

    def rename_or_die(self, target):
        if self.name == victim:
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(self, target)

    Path.rename = rename_or_die
    shutil.rmtree = lambda folder, **_: os.kill(os.getpid(), signal.SIGKILL) if Path(folder) == path else None
    with artifacts.new_folder(path) as partial:
        (partial / "b").write_text("2")


@pytest.mark.parametrize("victim", ["out", ".out.partial"])
def test_a_folder_that_is_replaced_is_whole_or_absent_whenever_its_writer_is_killed(tmp_path, victim):
    folder = tmp_path / "out"
    with artifacts.new_folder(folder) as partial:
        (partial / "a").write_text("1")
    writer = multiprocessing.get_context("fork").Process(target=_replace_and_die, args=(folder, victim))
    writer.start()
    writer.join()
    assert writer.exitcode == -signal.SIGKILL
    assert not folder.exists() or [path.name for path in folder.iterdir()] == ["a"]
    with artifacts.new_folder(folder) as partial:
        (partial / "b").write_text("2")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in folder.iterdir()] == ["b"]


def _hold_lock(path, ready, release):
    with artifacts.locked(path, "waits"):
        ready.set()
        release.wait(60)


def test_a_lock_keeps_others_out_until_its_holder_ends_or_is_killed(tmp_path, capsys):
    context = multiprocessing.get_context("fork")
    for kill in (False, True):
        ready, release = context.Event(), context.Event()
        holder = context.Process(target=_hold_lock, args=(tmp_path / "lock", ready, release))
        holder.start()
        assert ready.wait(60)
        started = time.monotonic()
        threading.Timer(0.3, holder.kill if kill else release.set).start()
        with artifacts.locked(tmp_path / "lock", "waits"):
            assert time.monotonic() - started > 0.25
            assert capsys.readouterr().out == "waits\n"
        holder.join()
        assert list(tmp_path.iterdir()) == []


def test_too_little_room_is_a_full_disk(tmp_path):
    artifacts.require_room(tmp_path, 1)
    with pytest.raises(OSError, match="No space left") as caught:
        artifacts.require_room(tmp_path, 1 << 62)
    assert caught.value.errno == errno.ENOSPC


def _hold_scratch(parent, ready):
    with artifacts.scratch_folder(parent) as folder:
        (folder / "page").write_bytes(b"x")
        ready.set()
        time.sleep(600)


def test_a_scratch_folder_vanishes_with_its_block_or_after_a_kill(tmp_path):
    with artifacts.scratch_folder(tmp_path) as first, artifacts.scratch_folder(tmp_path) as second:
        assert first != second
        assert first.is_dir()
        assert second.is_dir()
    assert list(tmp_path.iterdir()) == []
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    writer = context.Process(target=_hold_scratch, args=(tmp_path, ready))
    writer.start()
    assert ready.wait(60)
    with artifacts.scratch_folder(tmp_path):
        assert len(list(tmp_path.glob(".*.scratch/page"))) == 1  # it lives
    writer.kill()
    writer.join()
    with artifacts.scratch_folder(tmp_path):
        assert not list(tmp_path.glob(".*.scratch/page"))
    assert list(tmp_path.iterdir()) == []

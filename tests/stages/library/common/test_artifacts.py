import errno
import fcntl
import hashlib
import multiprocessing
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from stages.library.common import artifacts


def test_hashes_agree_and_canonical_json_ignores_the_order_of_keys_and_refuses_nan(tmp_path):
    content = b"x" * 3_000_000
    (tmp_path / "file").write_bytes(content)
    expected = hashlib.sha256(content).hexdigest()
    assert artifacts.sha256_bytes(content) == artifacts.sha256_file(tmp_path / "file") == expected
    assert artifacts.canonical_json({"b": 1, "a": "ü"}) == '{\n  "a": "ü",\n  "b": 1\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        artifacts.canonical_json({"a": float("nan")})


def started(method, target, *arguments):
    process = multiprocessing.get_context(method).Process(target=target, args=arguments)
    process.start()
    return process


def fail_within(context, write):
    def fail():
        with context as partial:
            write(partial)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()


def test_a_file_is_whole_or_absent(tmp_path):
    path = tmp_path / "deep" / ("x" * 250 + ".json")  # a name as long as names can be
    fail_within(artifacts.new_file(path), lambda partial: partial.write_text("half"))
    assert list(tmp_path.rglob("*.*")) == []
    artifacts.write_json(path, {"ü": [1]})
    assert path.read_bytes() == '{\n  "ü": [\n    1\n  ]\n}\n'.encode()
    assert path.stat().st_mode & 0o777 == 0o644


def test_what_killed_writers_left_is_removed_and_what_others_write_is_not(tmp_path):
    (tmp_path / ".old.json.1.partial").write_text("half")
    (tmp_path / ".keep").write_text("no partial file")
    with artifacts.new_file(tmp_path / "first") as first:
        assert not (tmp_path / ".old.json.1.partial").exists()
        assert first.parent == tmp_path
        assert first.name.startswith(".first.")
        assert first.suffix == ".partial"
        first.write_text("1")
        artifacts.write_bytes(tmp_path / "second", b"2")
        assert not (tmp_path / "first").exists()
        assert first.exists()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [".keep", "first", "second"]
    assert (tmp_path / "first").read_text() == "1"


def test_a_partial_file_that_another_takes_for_abandoned_is_made_anew(tmp_path, monkeypatch):
    flock = fcntl.flock
    taken: list[Path] = []

    def late(handle, operation):
        if not taken:
            taken.extend(tmp_path.glob(".file.*.partial"))
            taken[0].unlink()
        flock(handle, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    artifacts.write_bytes(tmp_path / "file", b"whole")
    assert len(taken) == 1
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"whole")]


def test_a_folder_is_whole_or_what_it_was(tmp_path):
    folder = tmp_path / "missing" / "out"
    with artifacts.new_folder(folder) as partial:
        assert partial == folder.parent / ".out.partial"
        assert not folder.exists()
        (partial / "a").write_text("1")
    fail_within(artifacts.new_folder(folder), lambda partial: (partial / "b").write_text("2"))
    assert [path.name for path in folder.iterdir()] == ["a"]
    (folder.parent / ".out.partial").mkdir()  # as a killed run leaves it
    (folder.parent / ".out.partial" / "stale").write_text("x")
    with artifacts.new_folder(folder) as partial:
        (partial / "c").write_text("3")
    assert [path.name for path in folder.iterdir()] == ["c"]
    assert [path.name for path in folder.parent.iterdir()] == ["out"]


def _replace_and_die(path, victim):
    rename = Path.rename

    def rename_or_die(self, target):
        if self.name == victim:
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(self, target)

    Path.rename = rename_or_die  # type: ignore[method-assign]

    def kill_at_removal(folder, **_):
        if Path(folder) == path:
            os.kill(os.getpid(), signal.SIGKILL)

    shutil.rmtree = kill_at_removal  # type: ignore[assignment]
    with artifacts.new_folder(path) as partial:
        (partial / "b").write_text("2")


@pytest.mark.parametrize("victim", ["out", ".out.partial"])
def test_a_folder_that_is_replaced_is_whole_or_absent_whenever_its_writer_is_killed(tmp_path, victim):
    folder = tmp_path / "out"
    with artifacts.new_folder(folder) as partial:
        (partial / "a").write_text("1")
    writer = started("fork", _replace_and_die, folder, victim)
    writer.join()
    assert writer.exitcode == -signal.SIGKILL
    assert not folder.exists() or [path.name for path in folder.iterdir()] == ["a"]
    with artifacts.new_folder(folder) as partial:
        (partial / "b").write_text("2")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in folder.iterdir()] == ["b"]


def _write_slowly(path, ready, release):
    with artifacts.new_folder(path) as partial:
        (partial / "a").write_text("1")
        ready.set()
        release.wait(60)
        (partial / "b").write_text("1")


@pytest.mark.parametrize("kill", [False, True])
def test_two_runs_write_a_folder_one_after_the_other(tmp_path, capsys, kill):
    context = multiprocessing.get_context("fork")
    ready, release = context.Event(), context.Event()
    first = started("fork", _write_slowly, tmp_path / "out", ready, release)
    assert ready.wait(60)
    threading.Timer(0.3, first.kill if kill else release.set).start()
    with artifacts.new_folder(tmp_path / "out") as partial:
        first.join()
        assert first.exitcode == (-signal.SIGKILL if kill else 0)
        assert (tmp_path / "out").exists() != kill
        assert capsys.readouterr().out == f"another run is writing {tmp_path / 'out'}: waiting for it\n"
        (partial / "c").write_text("2")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["c"]


def test_room_for_the_last_byte_is_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    artifacts.require_room(tmp_path, 1000)
    with pytest.raises(OSError, match="No space left") as caught:
        artifacts.require_room(tmp_path, 1001)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path))


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
    ready = multiprocessing.get_context("spawn").Event()
    writer = started("spawn", _hold_scratch, tmp_path, ready)
    assert ready.wait(60)
    with artifacts.scratch_folder(tmp_path):
        assert len(list(tmp_path.glob(".*.scratch/page"))) == 1  # it lives
    writer.kill()
    writer.join()
    with artifacts.scratch_folder(tmp_path):
        assert not list(tmp_path.glob(".*.scratch/page"))
    assert list(tmp_path.iterdir()) == []

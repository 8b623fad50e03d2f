"""Files that are whole or absent, whatever stops or kills their writers."""

import errno
import fcntl
import hashlib
import itertools
import multiprocessing
import os
import shutil
import signal
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from stages.library.common import artifacts, console


def test_hashes_agree_and_json_refuses_nan(tmp_path):
    content = b"x" * 3_000_000
    (tmp_path / "file").write_bytes(content)
    expected = hashlib.sha256(content).hexdigest()
    assert artifacts.sha256_bytes(content) == artifacts.sha256_file(tmp_path / "file") == expected
    with pytest.raises(ValueError, match="not JSON compliant"):
        artifacts.canonical_json({"a": float("nan")})


def started(target, *arguments):
    process = multiprocessing.get_context("fork").Process(target=target, args=arguments)
    process.start()
    return process


def test_a_file_is_whole_or_absent(tmp_path):
    path = tmp_path / "deep" / ("x" * 250 + ".json")  # a name as long as names can be
    with pytest.raises(RuntimeError), artifacts.new_file(path) as partial:
        raise RuntimeError(partial.write_text("half"))
    assert list(tmp_path.rglob("*.*")) == []
    artifacts.write_json(path, {"b": 1, "a": "ü"})
    assert path.read_bytes() == '{\n  "a": "ü",\n  "b": 1\n}\n'.encode()
    assert path.stat().st_mode & 0o777 == 0o644


def test_what_killed_writers_left_is_removed_and_what_others_write_is_not(tmp_path):
    (tmp_path / ".old.json.1.partial").write_text("half")
    (tmp_path / ".keep").write_text("no partial file")
    with artifacts.new_file(tmp_path / "first") as first:
        assert not (tmp_path / ".old.json.1.partial").exists()
        assert first.match(f"{tmp_path}/.first.*.partial")
        first.write_text("1")
        artifacts.write_bytes(tmp_path / "second", b"2")
        assert not (tmp_path / "first").exists()
        assert first.exists()
    assert {path.name for path in tmp_path.iterdir()} == {".keep", "first", "second"}
    assert (tmp_path / "first").read_text() == "1"


def test_a_partial_file_that_another_takes_for_abandoned_is_made_anew(tmp_path, monkeypatch):
    flock = fcntl.flock

    def late(handle, operation):
        monkeypatch.undo()
        next(tmp_path.glob(".file.*.partial")).unlink()
        flock(handle, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    artifacts.write_bytes(tmp_path / "file", b"whole")
    assert fcntl.flock is flock
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"whole")]


def test_a_folder_is_whole_or_what_it_was(tmp_path):
    folder = tmp_path / "missing" / "out"
    with artifacts.new_folder(folder) as partial:
        assert partial == folder.parent / ".out.partial"
        assert not folder.exists()
        (partial / "a").write_text("1")
    with pytest.raises(RuntimeError), artifacts.new_folder(folder) as partial:
        raise RuntimeError((partial / "b").write_text("2"))
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
    with artifacts.new_folder(path) as partial:
        (partial / "b").write_text("2")


@pytest.mark.parametrize("victim", ["out", ".out.partial"])
def test_a_folder_that_is_replaced_is_whole_or_absent_whenever_its_writer_is_killed(tmp_path, victim):
    folder = tmp_path / "out"
    artifacts.write_bytes(folder / "a", b"1")
    writer = started(_replace_and_die, folder, victim)
    writer.join()
    assert writer.exitcode == -signal.SIGKILL
    assert not folder.exists() or [path.name for path in folder.iterdir()] == ["a"]
    with artifacts.new_folder(folder) as partial:
        (partial / "b").write_text("2")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in folder.iterdir()] == ["b"]


def _write_slowly(context, ready, release):
    with context as folder:
        (folder / "page").write_text("1")
        ready.set()
        release.wait(60)
        (folder / "b").write_text("1")


@pytest.fixture
def events():
    context = multiprocessing.get_context("fork")
    return context.Event(), context.Event()


@pytest.mark.parametrize("kill", [False, True])
def test_two_runs_write_a_folder_one_after_the_other(tmp_path, capsys, events, kill):
    ready, release = events
    first = started(_write_slowly, artifacts.new_folder(tmp_path / "out"), ready, release)
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


def test_a_scratch_folder_vanishes_with_its_block_or_after_a_kill(tmp_path, events):
    with artifacts.scratch_folder(tmp_path) as first, artifacts.scratch_folder(tmp_path) as second:
        assert first != second
        assert all(folder.is_dir() for folder in (first, second))
    assert list(tmp_path.iterdir()) == []
    writer = started(_write_slowly, artifacts.scratch_folder(tmp_path), *events)
    assert events[0].wait(60)
    with artifacts.scratch_folder(tmp_path):
        assert len(list(tmp_path.glob(".*.scratch/page"))) == 1  # it lives
    writer.kill()
    writer.join()
    with artifacts.scratch_folder(tmp_path):
        assert not list(tmp_path.glob(".*.scratch/page"))
    assert list(tmp_path.iterdir()) == []


CONTEXTS = {
    "file": lambda folder: artifacts.new_file(folder / "out"),
    "folder": lambda folder: artifacts.new_folder(folder / "out"),
    "scratch": artifacts.scratch_folder,
    "lock": lambda folder: artifacts.locked(folder / "lock", "waits"),
}


def _stop_at_change(name, folder, number, moment):
    """Raises what SIGTERM raises right before or after one of the changes of files."""
    counted = itertools.count(1)

    def stopping(change):
        def changed(*arguments, **options):
            if moment == "before" and next(counted) == number:
                raise console.Stopped
            result = change(*arguments, **options)
            if moment == "after" and next(counted) == number:
                raise console.Stopped
            return result

        return changed

    for change in ("open", "mkdir", "rename", "replace", "unlink", "rmdir"):
        setattr(os, change, stopping(getattr(os, change)))
    try:
        with CONTEXTS[name](folder) as path:
            if isinstance(path, Path) and path.is_file():
                path.write_text("2")
    except console.Stopped:
        os._exit(143)
    os._exit(0)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("name", CONTEXTS)
def test_a_stop_at_any_change_leaves_nothing_half_done(tmp_path, name, moment):
    for number in range(1, 100):
        folder = tmp_path / str(number)
        folder.mkdir()
        if name == "folder":
            (folder / "out").mkdir()
        writer = started(_stop_at_change, name, folder, number, moment)
        writer.join()
        assert {path.name for path in folder.iterdir()} <= {"out"}, number
        if writer.exitcode == 0:
            break
        assert writer.exitcode == 143
    assert number > 2

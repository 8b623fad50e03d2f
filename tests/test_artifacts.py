import hashlib
import multiprocessing
import time

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

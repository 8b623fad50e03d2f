"""SIGTERM right before or after any change of files: nothing half done stays."""

import multiprocessing
import os

import pytest

from stages.library.common import artifacts, console

CHANGES = ("open", "mkdir", "rename", "replace", "unlink", "rmdir")
CONTEXTS = {
    "file": lambda folder: artifacts.new_file(folder / "out"),
    "folder": lambda folder: artifacts.new_folder(folder / "out"),
    "scratch": artifacts.scratch_folder,
    "lock": lambda folder: artifacts.locked(folder / "lock", "waits"),
}


def _stop_at_change(name, folder, number, moment):
    """Raises what SIGTERM raises right before or after one of the changes of files."""
    left = number

    def count(when):
        nonlocal left
        left -= when == moment
        if left == 0 and when == moment:
            raise console.Stopped

    def stopping(change):
        def changed(*arguments, **options):
            count("before")
            result = change(*arguments, **options)
            count("after")
            return result

        return changed

    for change in CHANGES:
        setattr(os, change, stopping(getattr(os, change)))
    try:
        with CONTEXTS[name](folder) as path:
            if path and path.is_file():
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
        arguments = name, folder, number, moment
        writer = multiprocessing.get_context("fork").Process(target=_stop_at_change, args=arguments)
        writer.start()
        writer.join()
        assert {path.name for path in folder.iterdir()} <= {"out"}, number
        if writer.exitcode == 0:
            break
        assert writer.exitcode == 143
    assert number > 2

import errno
import functools
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import ROOT

from stages.library import console
from stages.library.console import UserError


def test_a_user_error_is_one_line_and_exit_status_1(capsys):
    def main():
        raise UserError("`split.seed` must be >= 0. Received: -1")

    with pytest.raises(SystemExit) as caught:
        console.run(main)
    assert caught.value.code == "error: `split.seed` must be >= 0. Received: -1"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT])
def test_what_the_machine_refuses_is_one_line_with_the_place_and_a_remedy(number):
    def main():
        raise OSError(number, os.strerror(number), "/cache/part")

    with pytest.raises(SystemExit) as caught:
        console.run(main)
    assert str(caught.value.code).startswith(f"error: {os.strerror(number)}: /cache/part. ")
    assert "DECANT_CACHE" in str(caught.value.code)


@pytest.fixture
def nobody(monkeypatch):
    """A folder in which this process is a user whom permissions bind; pytest's own belong to root alone."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    as_root = os.geteuid() == 0
    try:
        yield folder, (lambda: os.seteuid(65534)) if as_root else (lambda: None)
    finally:
        if as_root:
            os.seteuid(0)
        for path in folder.iterdir():
            path.chmod(0o755)
        shutil.rmtree(folder)


def refused(main):
    with pytest.raises(SystemExit) as caught:
        console.run(main)
    return caught.value.code


def test_what_may_not_be_read_and_what_may_not_be_written_are_told_apart(nobody):
    folder, become = nobody
    for name in ("closed", "open"):
        (folder / name).mkdir()
        (folder / name / "file").write_text("x")
        (folder / name).chmod(0 if name == "closed" else 0o555)
    (folder / "file").write_text("x")
    (folder / "file").chmod(0)
    become()
    denied = "error: Permission denied: "
    file = folder / "file"
    assert refused(file.read_bytes) == f"{denied}{file}. Let this user read {file}"
    assert refused(lambda: list((folder / "closed").iterdir())).endswith(f". Let this user read {folder / 'closed'}")
    for name in ("file", "none"):
        inside = folder / "closed" / name
        assert refused(inside.read_bytes) == f"{denied}{inside}. Let this user read {folder / 'closed'}"
    new = folder / "open" / "new"
    assert refused(lambda: new.write_text("x")) == f"{denied}{new}. {console.REMEDIES[errno.EACCES]}"
    assert refused(new.mkdir) == f"{denied}{new}. {console.REMEDIES[errno.EACCES]}"


def test_a_full_disk_is_one_line_whatever_the_library_makes_of_it():
    def main():
        raise RuntimeError(
            f"Flushing failed: {os.strerror(errno.ENOSPC)}; logs/events [Op:FlushSummaryWriter]\nname: x"
        )

    with pytest.raises(SystemExit) as caught:
        console.run(main)
    assert caught.value.code == f"error: No space left on device. {console.REMEDIES[errno.ENOSPC]}"


def test_a_file_that_nobody_expected_to_be_missing_is_a_defect(tmp_path):
    def main():
        (tmp_path / "missing").read_bytes()

    with pytest.raises(FileNotFoundError):
        console.run(main)


def test_a_defect_keeps_its_traceback():
    def main():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        console.run(main)


def test_the_closing_line_says_what_how_long_and_how_fast(capsys, monkeypatch):
    stopwatch = console.Stopwatch()
    monkeypatch.setattr(stopwatch, "seconds", lambda: 2.0)
    stopwatch.close("fetch", "2,000 pictures", 2000, following="tfrecord")
    assert capsys.readouterr().out == "fetch: 2,000 pictures; 2.0 s, 1,000 images/s. Next: dvc repro tfrecord\n"


def test_progress_yields_everything():
    assert list(console.progress(range(5), "work", "items")) == [0, 1, 2, 3, 4]


WAITS = """
import sys, time
from pathlib import Path
from stages.library import artifacts, console

def main():
    with artifacts.new_folder(Path(sys.argv[1])):
        print("begun", flush=True)
        time.sleep(60)

console.run(main)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_one_line_the_shells_exit_status_and_nothing_half_done(number, tmp_path):
    command = [sys.executable, "-c", WAITS, str(tmp_path / "out")]
    # A shell has its background jobs ignore SIGINT, and their children after them.
    heeds = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heeds
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert errors == f"stopped by {number.name}. What is finished is kept; run it again to go on\n"
    assert list(tmp_path.iterdir()) == []


def test_a_library_s_lines_about_a_full_disk_stay_one_line():
    def main():
        raise OSError(errno.ENOSPC, "Can't write data (file write failed: time = now\n, filename = 'a', errno = 28")

    with pytest.raises(SystemExit) as caught:
        console.run(main)
    assert caught.value.code == f"error: {os.strerror(errno.ENOSPC)}. {console.REMEDIES[errno.ENOSPC]}"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_notice_is_shown_on_a_terminal_and_wiped_out(monkeypatch, capsys):
    with console.notice("starting"):
        pass
    assert capsys.readouterr().err == ""  # no terminal
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "__stderr__", terminal)
    with console.notice("starting"):
        assert terminal.getvalue() == "starting ..."
    assert terminal.getvalue() == "starting ...\r\x1b[K"
    monkeypatch.setattr(sys, "__stderr__", None)  # a spinner stands in its place
    with console.notice("starting"):
        assert terminal.getvalue() == "starting ...\r\x1b[K"


def test_a_long_docstring_is_shortened_in_the_help():
    lists = "Summary.\n\nWrites:\n  a.csv: b.\nCosts nothing."
    assert console.parser(lists, "fetch").description == (
        "Summary.\nThe head of stages/fetch.py says what it reads, writes and costs."
    )
    long = "Summary.\n\n" + "word " * 200
    assert console.parser(long, "fetch").description == console.parser(lists, "fetch").description

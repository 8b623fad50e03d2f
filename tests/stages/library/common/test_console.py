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

from stages.library.common import console
from stages.library.common.console import UserError


def rejected(main):
    with pytest.raises(SystemExit) as caught:
        console.run(main)
    return caught.value.code


def failing(error):
    def main():
        raise error

    return main


FULL = f"No space left on device. {console.REMEDIES[errno.ENOSPC]}"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("`split.seed` must be >= 0. Received: -1"), "`split.seed` must be >= 0. Received: -1"),
        (RuntimeError(f"Flushing failed: {os.strerror(errno.ENOSPC)}; logs [Op:FlushSummaryWriter]\nname: x"), FULL),
        (OSError(errno.ENOSPC, "Can't write data (file write failed: time = now\n, filename = 'a', errno = 28"), FULL),
        *(
            (OSError(number, os.strerror(number), "/cache/part"), f"{os.strerror(number)}: /cache/part. {remedy}")
            for number, remedy in console.REMEDIES.items()
        ),
    ],
)
def test_what_a_user_can_mend_is_one_line_with_the_remedy_and_exit_status_1(error, line):
    assert rejected(failing(error)) == f"error: {line}"


@pytest.mark.parametrize("error", [ZeroDivisionError(), FileNotFoundError(errno.ENOENT, "missing", "a")])
def test_a_defect_keeps_its_traceback(error):
    with pytest.raises(type(error)):
        console.run(failing(error))


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
    assert rejected(file.read_bytes) == f"{denied}{file}. Let this user read {file}"
    assert rejected(lambda: list((folder / "closed").iterdir())).endswith(f". Let this user read {folder / 'closed'}")
    for name in ("file", "none"):
        inside = folder / "closed" / name
        assert rejected(inside.read_bytes) == f"{denied}{inside}. Let this user read {folder / 'closed'}"
    new = folder / "open" / "new"
    assert rejected(lambda: new.write_text("x")) == f"{denied}{new}. {console.REMEDIES[errno.EACCES]}"
    assert rejected(new.mkdir) == f"{denied}{new}. {console.REMEDIES[errno.EACCES]}"


def test_the_closing_line_says_what_how_long_and_how_fast(capsys, monkeypatch):
    stopwatch = console.Stopwatch()
    monkeypatch.setattr(stopwatch, "seconds", lambda: 2.0)
    stopwatch.close("fetch", "2,000 images", 2000, following="tfrecord")
    assert capsys.readouterr().out == "fetch: 2,000 images; 2.0 s, 1,000 images/s. Next: dvc repro tfrecord\n"


WAITS = """
import sys, time
from pathlib import Path
from stages.library.common import artifacts, console

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


RUNS = """
import os, sys, time
from stages.library.common import console

def main():
    {}

console.run(main)
"""


@pytest.fixture
def shell(monkeypatch):
    """What comes of a line of a shell in which "$0" -c "$1" is a program of some body."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # what is printed waits in a buffer, as it does for a user

    def run(line, body):
        command = ["sh", "-c", line, sys.executable, RUNS.format(body)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    return run


@pytest.mark.parametrize(
    ("body", "errors", "status"),
    [
        ("for n in range(100_000): print(n)", "", 141),
        ("time.sleep(0.2); print(2)", "", 141),  # what waits for the end
        ("time.sleep(0.2); print('x' * 1_000_000)", "", 141),  # longer than any buffer
        ("time.sleep(0.2); print(2); sys.exit(3)", "", 3),
        ("time.sleep(0.2); print(2); raise console.UserError('no such model')", "error: no such model\n", 1),
        ("time.sleep(0.2); print(2, file=sys.stderr)", None, 141),  # where nobody reads errors
        ("time.sleep(0.2); raise console.UserError('no such model')", None, 1),
    ],
)
def test_who_stops_reading_ends_a_program_with_nothing_but_its_error(shell, body, errors, status):
    redirected = "2>&1" if errors is None else ""
    line = f'{{ "$0" -c "$1" {redirected}; echo $? >&2; }} | head -n 1'
    assert shell(line, f"print(1, flush=True)\n    {body}").stderr == f"{errors or ''}{status}\n"


def test_the_break_of_another_pipe_is_a_defect(shell):
    done = shell('"$0" -c "$1"', "reader, writer = os.pipe(); os.close(reader); os.write(writer, b'x')")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "BrokenPipeError: [Errno 32] Broken pipe"


def test_results_that_find_no_space_are_one_line(shell):
    done = shell('"$0" -c "$1" > /dev/full', "print(1)")
    assert (done.returncode, done.stderr) == (1, f"error: {FULL}\n")


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-"])
def test_a_program_runs_without_stdout_or_stderr(shell, closed, tmp_path):
    body = f"print(sys.stdout.isatty(), sys.stderr.isatty()); open({str(tmp_path / 'end')!r}, 'w').close()"
    assert shell(f'"$0" -c "$1" {closed}', body).returncode == 0
    assert (tmp_path / "end").read_text() == ""


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
    for rest in ("Writes:\n  a.csv: b.\nCosts nothing.", "word " * 200):
        shown = console.parser(f"Summary.\n\n{rest}", "fetch").description
        assert shown == "Summary.\nThe head of stages/fetch.py says what it reads, writes and costs."

import errno
import io
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from unittest import mock

import pytest

from stages.library.common import console
from stages.library.common.console import UserError
from tests import processes


def rejected(main):
    with pytest.raises(SystemExit) as caught:
        console.run(main)
    return caught.value.code


FULL = f"No space left on device. {console.REMEDIES[errno.ENOSPC]}"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("`split.seed` must be >= 0. Received: -1"), "`split.seed` must be >= 0. Received: -1"),
        (RuntimeError(f"Flushing failed: {os.strerror(errno.ENOSPC)}; logs [Op:FlushSummaryWriter]\nname: x"), FULL),
        (MemoryError("Unable to allocate 9 GiB"), f"Cannot allocate memory. {console.REMEDIES[errno.ENOMEM]}"),
        (OSError(errno.ENOSPC, "Can't write data (file write failed: time = now\n, filename = 'a', errno = 28"), FULL),
        *(
            (OSError(number, os.strerror(number), "/cache/part"), f"{os.strerror(number)}: /cache/part. {remedy}")
            for number, remedy in console.REMEDIES.items()
        ),
    ],
)
def test_what_a_user_can_mend_is_one_line_with_the_remedy_and_exit_status_1(error, line):
    assert rejected(mock.Mock(side_effect=error)) == f"error: {line}"


@pytest.mark.parametrize("error", [ZeroDivisionError(), FileNotFoundError(errno.ENOENT, "missing", "a")])
def test_a_defect_keeps_its_traceback(error):
    with pytest.raises(type(error)):
        console.run(mock.Mock(side_effect=error))


@pytest.fixture
def nobody():
    """A folder in which this process is a user whom permissions bind; pytest's own belong to root alone."""
    folder, user = Path(tempfile.mkdtemp()), os.geteuid()
    folder.chmod(0o755)
    yield folder, lambda: os.seteuid(user or 65534)
    os.seteuid(user)
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
    denied, file = "error: Permission denied: ", folder / "file"
    assert rejected(file.read_bytes) == f"{denied}{file}. Let this user read {file}"
    assert rejected(lambda: list((folder / "closed").iterdir())).endswith(f". Let this user read {folder / 'closed'}")
    for inside in (folder / "closed" / "file", folder / "closed" / "none"):
        assert rejected(inside.read_bytes) == f"{denied}{inside}. Let this user read {folder / 'closed'}"
    new = folder / "open" / "new"
    for write in (lambda: new.write_text("x"), new.mkdir):
        assert rejected(write) == f"{denied}{new}. {console.REMEDIES[errno.EACCES]}"


def test_the_closing_line_says_what_how_long_and_how_fast(capsys, monkeypatch):
    stopwatch = console.Stopwatch()
    monkeypatch.setattr(stopwatch, "seconds", lambda: 2.0)
    stopwatch.close("fetch", "2,000 images", 2000, following="tfrecord")
    assert capsys.readouterr().out == "fetch: 2,000 images; 2.0 s, 1,000 images/s. Next: dvc repro tfrecord\n"
    stopwatch.close("evaluate", "one", 1, following="report")
    assert (
        capsys.readouterr().out == "evaluate: one; 2.0 s, 0.5 images/s. Next: dvc repro report\n"
    )  # never "0 images/s"
    stopwatch.close("fetch", "a folder", following="tfrecord")
    assert capsys.readouterr().out == "fetch: a folder; 2.0 s. Next: dvc repro tfrecord\n"


@pytest.mark.parametrize(("number", "shown"), [(0, "0 images"), (1, "1 image"), (2000, "2,000 images")])
def test_one_is_no_plural(number, shown):
    assert console.count(number, "image") == shown


RUNS = """
import os, signal, sys, time, warnings
from pathlib import Path
from stages.library.common import artifacts, console

def main():
    {}

console.run(main)
"""


@pytest.fixture
def shell(monkeypatch):
    """What comes of a line of a shell in which "$0" -c "$1" is a program of some body."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # what is printed waits in a buffer, as it does for a user
    return lambda line, body: processes.run("sh", "-c", line, sys.executable, RUNS.format(body), check=False)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_one_line_the_shells_exit_status_and_nothing_half_done(shell, number, tmp_path):
    body = f"with artifacts.new_folder(Path({str(tmp_path / 'out')!r})): os.kill(os.getpid(), {number}); time.sleep(60)"
    # A shell has its background jobs ignore SIGINT, and their children after them.
    done = shell('"$0" -c "$1"', f"signal.signal(signal.SIGINT, signal.default_int_handler)\n    {body}")
    assert done.returncode == 128 + number
    assert done.stderr == f"stopped by {number.name}. What is finished is kept; run it again to go on\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("statement", "shown"),
    [
        ("raise console.UserError(text)", 1),
        ("raise OSError(28, 'full', text)", 1),
        ("raise ZeroDivisionError(text)", 0),
        ("warnings.warn(text)", 2),
        ("console.Parser().parse_args([text])", 3),
        ("console.Parser().error(text)", 3),
    ],
)
def test_whatever_ends_a_program_is_escaped(shell, statement, shown):
    """In a process of its own, for what Python itself prints in the end."""
    text = "x\x1b[31mred\u202egnp.exe\n\x9b2Jgone\r"
    done = shell('"$0" -c "$1"', f"text = {text!a}\n    {statement}")
    assert r"\x1b[31mred\u202egnp.exe" in done.stderr
    assert all(character.isprintable() or character == "\n" for character in done.stderr)
    assert shown == 0 or done.stderr.count("\n") <= shown


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


def test_the_break_of_another_pipe_is_a_defect_and_a_full_disk_is_none(shell):
    done = shell('"$0" -c "$1"', "reader, writer = os.pipe(); os.close(reader); os.write(writer, b'x')")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, "BrokenPipeError: [Errno 32] Broken pipe")
    done = shell('"$0" -c "$1" > /dev/full', "print(1)")
    assert (done.returncode, done.stderr) == (1, f"error: {FULL}\n")


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-"])
def test_a_program_runs_without_stdout_or_stderr(shell, closed, tmp_path):
    body = f"print(sys.stdout.isatty(), sys.stderr.isatty()); open({str(tmp_path / 'end')!r}, 'w').close()"
    assert shell(f'"$0" -c "$1" {closed}', body).returncode == 0
    assert (tmp_path / "end").read_text() == ""


def test_a_notice_is_shown_on_a_terminal_and_wiped_out(monkeypatch, capsys):
    with console.notice("starting"):
        pass
    assert capsys.readouterr().err == ""  # no terminal
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    for name in ("stderr", "__stderr__"):
        monkeypatch.setattr(sys, name, terminal)
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

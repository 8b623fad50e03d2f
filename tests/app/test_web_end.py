"""How the web page's process ends: in seconds, with what it works on cut off, and nothing to be seen of it."""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from subprocess import PIPE, Popen

import pytest
from conftest import ROOT

from tests.serving import GET, HEAD, PART, connect, png, posted, until

PAGE = """
import sys
import time

from app import web
from app.web_page import Pages
from stages.library.common import console
from tests import serving

def main():
    models, listening = serving.Models(), web.listen("127.0.0.1", 0)
    models.gate.clear()  # every image takes a minute, and nothing can interrupt it
    Pages.leaderboard = property(lambda self: time.sleep(60))
    server = serving.page_of(models, upload_bytes=20_000_000, request_seconds=float(sys.argv[1]))
    print(listening.getsockname()[1], flush=True)
    server.run(listening)

console.run(main)
"""


@contextlib.contextmanager
def started(temporary, request_seconds=30):
    """A page in a process of its own, and a function that connects to it and sends what it is given."""
    environment = os.environ | {"TMPDIR": str(temporary), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", PAGE, str(request_seconds)]
    process = Popen(command, cwd=ROOT, env=environment, text=True, stdout=PIPE, stderr=PIPE)
    with process, contextlib.ExitStack() as stack:
        stack.callback(process.kill)
        assert process.stdout is not None
        url = f"127.0.0.1:{int(process.stdout.readline())}"
        yield process, lambda content: stack.enter_context(connect(url, content))


def has_files(process, temporary):
    """Tells whether it has temporary files open, also those without a name."""
    opened = Path(f"/proc/{process.pid}/fd").iterdir()
    return any(os.path.realpath(link).startswith(str(temporary)) for link in opened)


def assert_ends(process, temporary, signals=(signal.SIGTERM,), status=143, most_seconds=2.0):
    start = time.monotonic()
    for number in signals:
        process.send_signal(number)
        time.sleep(0.3)
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (status, "")
    assert time.monotonic() - start < most_seconds
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("signals", "status", "most_seconds"),
    [
        pytest.param([signal.SIGTERM], 143, 3, marks=pytest.mark.slow),
        pytest.param([signal.SIGINT], 0, 3, marks=pytest.mark.slow),
        ([signal.SIGTERM] * 2, 143, 1.5),
    ],
)
def test_a_stop_ends_it_in_time_and_a_second_one_at_once_whatever_it_works_on(tmp_path, signals, status, most_seconds):
    with started(tmp_path) as (process, ask):
        ask(posted(png()))
        ask(HEAD + b"Content-Length: 6000000\r\n\r\n" + PART + bytes(5_000_000))  # whose rest never comes
        ask(GET % b"/leaderboard")
        ask(GET % b"/assets/page.css").recv(1)  # an idle connection, and a sign that the others have arrived
        until(lambda: has_files(process, tmp_path))
        assert_ends(process, tmp_path, signals, status, most_seconds)


def test_without_work_or_with_work_that_was_given_up_it_ends_at_once(tmp_path):
    with started(tmp_path) as (process, ask):
        ask(GET % b"/").recv(1)
        ask(b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n")
        assert_ends(process, tmp_path)
    with started(tmp_path, request_seconds=0.2) as (process, ask):
        assert ask(posted(png())).recv(100).startswith(b"HTTP/1.1 503 ")
        assert_ends(process, tmp_path)

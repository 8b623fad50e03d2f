"""How the web page's process ends: in seconds, with what it works on cut off, and nothing to be seen of it."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

from tests.serving import GET, HEAD, PART, connect, png, posted, until

PAGE = """
import time
from dataclasses import replace

from app import web
from app.web_page import Pages
from app.web_server import Server
from stages.library.common import console
from tests import serving

def main():
    models, listening = serving.Models(), web.listen("127.0.0.1", 0)
    models.gate.clear()  # every image takes a minute, and nothing can interrupt it
    limits = replace(serving.LIMITS, upload_bytes=20_000_000, request_seconds=REQUEST)
    pages = Pages(serving.UNTRAINED, limits.upload_bytes, limits.pixels)
    Pages.leaderboard = property(lambda self: time.sleep(60))
    server = Server(pages, models, limits, web.LOCAL)
    print(listening.getsockname()[1], flush=True)
    server.run(listening)

console.run(main)
"""


class Page:
    """A page in a process of its own."""

    def __init__(self, process, temporary):
        assert process.stdout is not None
        self.process, self.temporary = process, temporary
        self.url = f"127.0.0.1:{int(process.stdout.readline())}"
        self.stack = contextlib.ExitStack()

    def ask(self, content):
        return self.stack.enter_context(connect(self.url, content))

    def has_files(self):
        """Tells whether it has temporary files open, also those without a name."""
        opened = Path(f"/proc/{self.process.pid}/fd").iterdir()
        return any(os.path.realpath(link).startswith(str(self.temporary)) for link in opened)

    def ends(self, signals, status, most_seconds):
        start = time.monotonic()
        for number in signals:
            self.process.send_signal(number)
            time.sleep(0.3)
        _, errors = self.process.communicate(timeout=120)
        assert (self.process.returncode, errors) == (status, "")
        assert time.monotonic() - start < most_seconds
        assert list(self.temporary.iterdir()) == []


@pytest.fixture
def page(tmp_path, request):
    environment = os.environ | {"TMPDIR": str(tmp_path), "TF_CPP_MIN_LOG_LEVEL": "3"}
    code = PAGE.replace("REQUEST", str(getattr(request, "param", 30)))
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        one = Page(process, tmp_path)
        with one.stack:
            try:
                yield one
            finally:
                process.kill()


@pytest.mark.parametrize(
    ("signals", "status", "most_seconds"),
    [
        pytest.param([signal.SIGTERM], 143, 3, marks=pytest.mark.slow),
        pytest.param([signal.SIGINT], 0, 3, marks=pytest.mark.slow),
        ([signal.SIGTERM] * 2, 143, 1.5),
    ],
)
def test_a_stop_ends_it_in_time_and_a_second_one_at_once_whatever_it_works_on(page, signals, status, most_seconds):
    page.ask(posted(png()))
    page.ask(HEAD + b"Content-Length: 6000000\r\n\r\n" + PART + bytes(5_000_000))  # whose rest never comes
    page.ask(GET % b"/leaderboard")
    page.ask(GET % b"/assets/page.css").recv(1)  # an idle connection, and a sign that the others have arrived
    until(page.has_files)
    page.ends(signals, status, most_seconds)


def test_without_work_it_ends_at_once(page):
    page.ask(GET % b"/").recv(1)
    page.ask(b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n")
    page.ends([signal.SIGTERM], 143, 2)


@pytest.mark.parametrize("page", [0.2], indirect=True)
def test_work_that_was_given_up_holds_it_no_longer(page):
    assert page.ask(posted(png())).recv(100).startswith(b"HTTP/1.1 503 ")
    page.ends([signal.SIGTERM], 143, 2)

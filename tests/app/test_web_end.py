"""How the web page's process ends: in seconds, with what it works on cut off, and nothing to be seen of it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

from tests.serving import png

START_SECONDS = 120
PAGE = """
import time
from pathlib import Path

from app import web
from app.models import Project
from app.web_page import Pages
from app.web_server import Server
from stages.library.common import console
from tests import serving

def main():
    models, listening = serving.Models(), web.listen("127.0.0.1", 0)
    models.gate.clear()  # every image takes a minute, and nothing can interrupt it
    pages = Pages(Project.open(Path(), Path("params.yaml")), 20_000_000, serving.LIMITS.pixels)
    pages.leaderboard = lambda: time.sleep(60)
    limits = serving.replace(serving.LIMITS, upload_bytes=20_000_000, request_seconds=REQUEST)
    app = Server(pages, models, limits, web.LOCAL).app
    print(listening.getsockname()[1], flush=True)
    web.run(web.configuration(app, 100, 30), listening)

console.run(main)
"""
HEAD = "{} HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: {}\r\n\r\n"
PART = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'


class Page:
    """A page in a process of its own."""

    def __init__(self, process, temporary):
        assert process.stdout is not None
        self.process, self.temporary = process, temporary
        self.port = int(process.stdout.readline())
        self.stack = contextlib.ExitStack()

    def ask(self, line, body=b"", length=None):
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=START_SECONDS)
        self.stack.enter_context(connection)
        connection.sendall(HEAD.format(line, len(body) if length is None else length).encode() + body)
        return connection

    def files(self):
        """The temporary files that it has open, also those without a name."""
        found = []
        for link in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
                found += [path for path in [str(link.readlink())] if path.startswith(str(self.temporary))]
        return found

    def end(self, *signals):
        """Its exit status, what it says, and the seconds until its end."""
        start = time.monotonic()
        for number in signals:
            self.process.send_signal(number)
            time.sleep(0.3)
        _, errors = self.process.communicate(timeout=START_SECONDS)
        return self.process.returncode, errors, time.monotonic() - start


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


def work_on_everything(page):
    image = PART + png() + b"\r\n--x--\r\n"
    page.ask("POST /classify", image)
    page.ask("POST /classify", PART + bytes(5_000_000), length=6_000_000)  # whose rest never comes
    page.ask("GET /leaderboard")
    page.ask("GET /assets/page.css").recv(1)  # an idle connection, and a sign that the others have arrived
    end = time.monotonic() + START_SECONDS
    while not page.files():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 0)])
def test_a_stop_ends_it_within_three_seconds_whatever_it_works_on(page, number, status):
    work_on_everything(page)
    ended, errors, seconds = page.end(number)
    assert (ended, errors) == (status, "")
    assert seconds < 3
    assert list(page.temporary.iterdir()) == []


def test_a_second_stop_ends_it_at_once(page):
    work_on_everything(page)
    status, errors, seconds = page.end(signal.SIGTERM, signal.SIGTERM)
    assert (status, errors) == (143, "")
    assert seconds < 1.5


def test_without_work_it_ends_at_once(page):
    page.ask("GET /").recv(1)
    page.ask("GET /", length=10)
    status, errors, seconds = page.end(signal.SIGTERM)
    assert (status, errors) == (143, "")
    assert seconds < 2


@pytest.mark.parametrize("page", [0.2], indirect=True)
def test_work_that_was_given_up_holds_it_no_longer(page):
    assert page.ask("POST /classify", PART + png() + b"\r\n--x--\r\n").recv(100).startswith(b"HTTP/1.1 503 ")
    status, errors, seconds = page.end(signal.SIGTERM)
    assert (status, errors) == (143, "")
    assert seconds < 2

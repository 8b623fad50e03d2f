"""More connections to the web page than it takes: those that came first are answered."""

import contextlib
import http.client
import socket
import time

import pytest
import requests
from conftest import ROOT

from app import web, web_connection
from app.models import Project
from tests.serving import PATIENCE_SECONDS, classify, png, serving, until

GET = b"GET /assets/page.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
BODY = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n' + png() + b"\r\n--x--\r\n"
POST = b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
POST += b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A checkout without any training."""
    return Project.open(tmp_path_factory.mktemp("empty"), ROOT / "params.yaml")


@contextlib.contextmanager
def connected(url, count):
    """So many connections, in order."""
    host, port = url.removeprefix("http://").split(":")
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection((host, int(port)), timeout=PATIENCE_SECONDS))
            for _ in range(count)
        ]


def answer(connection):
    """The status of the next answer and its Retry-After; 0 where the other side has ended."""
    response = http.client.HTTPResponse(connection)
    try:
        response.begin()
    except (ConnectionResetError, http.client.RemoteDisconnected):
        return 0, None
    response.read()
    return response.status, response.headers["Retry-After"]


def status(connection):
    return answer(connection)[0]


def ask(connection, content=GET):
    connection.sendall(content)
    return status(connection)


def test_of_200_connections_at_once_each_is_answered(project):
    with serving(project, web.most_connections(18)) as (url, _), connected(url, 200) as connections:
        assert ask(connections[0]) == 200
        assert ask(connections[-1]) == 200
        for connection in connections:
            connection.sendall(GET)
        assert [status(connection) for connection in connections] == [200] * 200
        assert classify(url).status_code == 200


def test_of_200_uploads_at_once_the_first_are_answered_and_the_others_rejected(project):
    with serving(project, web.most_connections(18)) as (url, models), connected(url, 200) as connections:
        models.gate.clear()
        for connection in connections[:4]:
            connection.sendall(POST)
        until(lambda: models.at_once == 2)
        time.sleep(0.2)  # the other two wait
        for connection in connections[4:]:
            connection.sendall(POST)
        start = time.monotonic()
        assert [answer(connection) for connection in connections[4:]] == [(503, "5")] * 196
        assert time.monotonic() - start < 5
        models.gate.set()
        assert [status(connection) for connection in connections[:4]] == [200] * 4


def test_beyond_its_limit_an_idle_connection_makes_room_for_a_new_one(project, monkeypatch):
    monkeypatch.setattr(web_connection, "IDLE_SECONDS", 0.1)
    with serving(project, 8) as (url, _), connected(url, 8) as idle:
        assert ask(idle[0]) == 200  # which is therefore the last one to be idle
        time.sleep(0.2)
        with connected(url, 3) as new:
            assert [ask(connection) for connection in new] == [200] * 3
            assert [status(connection) for connection in idle[1:4]] == [0] * 3
            assert [ask(connection) for connection in idle[4:] + idle[:1]] == [200] * 5


def test_beyond_its_limit_new_connections_are_rejected_while_all_others_work(project, monkeypatch):
    monkeypatch.setattr(web, "open_files", lambda: 16)
    with serving(project, 4) as (url, models), connected(url, 4) as working:
        models.gate.clear()
        for connection in working:
            connection.sendall(POST)
        until(lambda: models.at_once == 2)
        time.sleep(0.2)  # the other two wait
        with connected(url, 6) as new:
            for connection in new[:4]:
                connection.sendall(GET)
            assert [answer(connection) for connection in new] == [(503, "5")] * 4 + [(0, None)] * 2
        models.gate.set()
        assert [status(connection) for connection in working] == [200] * 4
        until(lambda: requests.get(url, timeout=PATIENCE_SECONDS).status_code == 200)


def test_connections_leave_files_for_the_rest(monkeypatch):
    monkeypatch.setattr(web, "open_files", lambda: 1024)
    assert web.most_connections(18) == 256
    assert web.most_connections(10_000) == 256
    monkeypatch.setattr(web, "open_files", lambda: 100_000)
    assert web.most_connections(18) == 572

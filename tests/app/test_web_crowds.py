"""More connections to the web page than it takes: those that came first are answered."""

import asyncio
import contextlib
import http.client
import resource
import time

import pytest
import requests

from app import web_connection
from tests import memory
from tests.serving import GET, PATIENCE_SECONDS, address, classify, connect, png, posted, serving, until

ASSET, IMAGE = GET % b"/assets/page.js", posted(png())


@contextlib.contextmanager
def connected(url, count):
    """So many connections, which the server accepts in order."""
    connections = []
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            connections.append(stack.enter_context(connect(url)))
            time.sleep(0.002)
        yield connections


def answer(connection):
    """The status of the next answer and its Retry-After; 0 where the other side has ended."""
    response = http.client.HTTPResponse(connection)
    try:
        response.begin()
    except (ConnectionResetError, http.client.RemoteDisconnected):
        return 0, None
    response.read()
    return response.status, response.headers["Retry-After"]


def statuses(connections, content=b""):
    for connection in connections:
        connection.sendall(content)
    return [answer(connection)[0] for connection in connections]


def begin_four_images(models, connections):
    models.gate.clear()
    for connection in connections[:4]:
        connection.sendall(IMAGE)
    until(lambda: models.at_once == 2)
    time.sleep(0.2)  # the other two wait


def test_of_200_connections_at_once_each_is_answered_and_of_200_uploads_the_first():
    with serving(web_connection.most_connections(18)) as (url, models), connected(url, 200) as connections:
        assert statuses(connections[:1] + connections[-1:], ASSET) == [200] * 2
        assert statuses(connections, ASSET) == [200] * 200
        assert classify(url).status_code == 200
        begin_four_images(models, connections)
        for connection in connections[4:]:
            connection.sendall(IMAGE)
        start = time.monotonic()
        assert [answer(connection) for connection in connections[4:]] == [(503, "5")] * 196
        assert models.most_at_once == 2
        assert time.monotonic() - start < 5
        models.gate.set()
        assert statuses(connections[:4]) == [200] * 4


def test_beyond_its_limit_an_idle_connection_makes_room_for_a_new_one(monkeypatch):
    monkeypatch.setattr(web_connection, "IDLE_SECONDS", 0.1)
    with serving(8) as (url, _), connected(url, 8) as idle:
        assert statuses(idle[:1], ASSET) == [200]  # which is therefore the last one to be idle
        time.sleep(0.2)
        with connected(url, 3) as new:
            assert [statuses([connection], ASSET) for connection in new] == [[200]] * 3
            assert statuses(idle[1:4]) == [0] * 3
            assert [statuses([connection], ASSET) for connection in idle[4:] + idle[:1]] == [[200]] * 5


def test_beyond_its_limit_new_connections_are_rejected_while_all_others_work(monkeypatch):
    monkeypatch.setattr(web_connection, "open_files", lambda: 16)
    with serving(4) as (url, models), connected(url, 4) as working:
        begin_four_images(models, working)
        with connected(url, 6) as new:
            for connection in new[:4]:
                connection.sendall(ASSET)
            assert [answer(connection) for connection in new] == [(503, "5")] * 4 + [(0, None)] * 2
        models.gate.set()
        assert statuses(working) == [200] * 4
        until(lambda: requests.get(url, timeout=PATIENCE_SECONDS).status_code == 200)


@pytest.mark.parametrize(("files", "at_once", "most"), [(1024, 18, 256), (1024, 10_000, 256), (100_000, 18, 572)])
def test_connections_leave_files_for_the_rest(monkeypatch, files, at_once, most):
    monkeypatch.setattr(web_connection, "open_files", lambda: files)
    assert web_connection.most_connections(at_once) == most


def test_a_thousand_requests_at_once_are_answered_or_rejected_in_bounded_memory(monkeypatch):
    monkeypatch.setattr(web_connection, "IDLE_SECONDS", PATIENCE_SECONDS)  # however busy this machine is
    content = posted(png(size_px=(90, 90)), b"Connection: close\r\n")

    async def one(host, port):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(content)
            return (await reader.read())[9:12]
        except ConnectionResetError:
            return b""
        finally:
            writer.close()

    async def crowd(host, port, gate):
        first = [asyncio.create_task(one(host, port)) for _ in range(100)]
        await asyncio.wait(first, timeout=2)  # four are worked on or wait for it
        rest = await asyncio.gather(*(one(host, port) for _ in range(900)))
        gate.set()
        return [*await asyncio.gather(*first), *rest]

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    memory.forget_peak()
    before = memory.peak_mib()
    with serving() as (url, models):
        models.gate.clear()
        host, port = address(url)
        found = asyncio.run(crowd(host, port, models.gate))
        assert (found.count(b"200"), found.count(b"503")) == (4, 996)
        assert models.most_at_once <= 2
        assert classify(url).status_code == 200
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert memory.peak_mib() - before < 200  # MiB, the clients' own included

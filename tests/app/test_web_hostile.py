"""The web page against hostile clients, over real connections: every kind of file, slow ones, torn requests, crowds."""

import asyncio
import contextlib
import gc
import html
import os
import random
import re
import resource
import socket
import time

import pytest
import requests
from conftest import ROOT

from app import web, web_server
from app.models import Project
from tests import memory
from tests.serving import PATIENCE_SECONDS, classify, png, serving, shown, until
from tests.zoo import KINDS
from tests.zoo_folders import NAMES

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

HEAD = b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
PART = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
FIELD = b'\r\n--x\r\nContent-Disposition: form-data; name="label"\r\n\r\n1'


def request(image, *headers):
    body = PART + image + FIELD + b"\r\n--x--\r\n"
    return b"".join([HEAD, *headers, b"Content-Length: %d\r\n\r\n" % len(body), body])


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A checkout without any training."""
    return Project.open(tmp_path_factory.mktemp("empty"), ROOT / "params.yaml")


@pytest.fixture(scope="module")
def site(project):
    with serving(project, pixels=100_000_000) as (url, _):
        yield url


def address(url):
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


def test_uploads_of_every_kind_are_answered_as_the_stages_would(site, capfd):
    for kind in KINDS:
        answer = classify(site, kind.content, kind.file)
        if answer.status_code == 413:  # larger than the page takes here
            assert len(kind.content) > 100_000, kind.name
            continue
        assert answer.status_code == 200, kind.name
        text = html.unescape(shown(answer))
        assert ("No image that can be used" in text) != kind.accepted, kind.name
        assert ("%" if kind.accepted else kind.outcome.strip()) in text, kind.name
    assert "Traceback" not in capfd.readouterr().err


def test_uploads_of_every_name_are_answered(site, capfd):
    for name in NAMES.values():
        answer = classify(site, name=os.fsdecode(name).encode("utf-8", "replace").decode())
        assert answer.status_code == 200, name
        assert "<script" not in answer.text.partition("</head>")[2].replace('<script src="', "")
    assert "Traceback" not in capfd.readouterr().err


def received(connection):
    """The number of bytes until the other side ends, in whatever way."""
    total = 0
    with contextlib.suppress(ConnectionResetError):
        while block := connection.recv(1 << 16):
            total += len(block)
    return total


def answer_to(url, content):
    """The first bytes of the answer to some bytes, b"" where the server hangs up or waits for more."""
    with socket.create_connection(address(url), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)
        try:
            return connection.recv(1 << 16)
        except ConnectionResetError:
            return b""


def mutated(dice):
    content = bytearray(request(png(128)))
    for _ in range(dice.randrange(1, 5)):
        place = dice.randrange(len(content))
        match dice.randrange(5):
            case 0:
                content[place] = dice.randrange(256)
            case 1:
                content[place:place] = dice.choice([b"\r\n", b"\0", b"--x", b'"', b"\xff" * 9, b": ", b"A" * 5000])
            case 2:
                del content[place : place + dice.randrange(1, 40)]
            case 3:
                start = dice.randrange(len(content))
                content[place:place] = content[start : start + 60]
            case 4:
                del content[place:]
    return bytes(content)


def test_torn_and_twisted_requests_are_rejected_and_nothing_breaks(site, capfd):
    seen = set()
    for seed in range(400):
        head, _, text = answer_to(site, mutated(random.Random(seed))).partition(b"\r\n")
        status = int(head.split()[1]) if head else 0
        assert status != 500, seed
        assert not re.search(rb"Traceback|site-packages|\.py\b|/root|/home", text), seed
        seen.add(status)
    assert {200, 400} <= seen
    assert "Traceback" not in capfd.readouterr().err
    assert classify(site).status_code == 200


@pytest.mark.parametrize(
    ("headers", "statuses"),
    [
        (b"Content-Length: 99999999999\r\n", {413}),
        (b"Content-Length: -1\r\n", {400}),
        (b"Content-Length: 5\r\nContent-Length: 6\r\n", {400}),
        (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", {400, 0}),
        (b"Transfer-Encoding: gzip, chunked\r\n", {400, 501}),
        (b"X: " + b"y" * 200_000 + b"\r\n", {400, 431}),
        (b"".join(b"X%d: y\r\n" % number for number in range(20_000)), {400, 431}),
        (b"Content-Length: 10\r\nExpect: 100-continue\r\nContent-Encoding: gzip\r\n", {100, 400}),
    ],
)
def test_heads_that_lie_are_rejected(site, headers, statuses, monkeypatch):
    monkeypatch.setattr(web_server, "DISCARD_SECONDS", 0.1)
    with socket.create_connection(address(site), timeout=PATIENCE_SECONDS) as connection:
        try:
            connection.sendall(HEAD + headers + b"\r\nno size\r\n")
            answer = connection.recv(1 << 16)
        except (ConnectionResetError, BrokenPipeError):
            answer = b""
    assert not answer or int(answer.split()[1]) in statuses
    assert classify(site).status_code == 200


@pytest.mark.parametrize(
    "name", ["undefined", "punycode", "idna", "utf-7", "zip", "hex", "rot13", "utf-16", "mbcs", "x" * 999]
)
def test_any_character_set_will_do(site, name, capfd):
    kind = {"Content-Type": f"multipart/form-data; boundary=x; charset={name}"}
    body = PART + png() + FIELD + b"\r\n--x--\r\n"
    answer = requests.post(f"{site}/classify", data=body, headers=kind, timeout=PATIENCE_SECONDS)
    assert answer.status_code in (200, 400)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("names", [["other"], ["image", "image"], ["other", "image"]])
def test_every_file_that_was_sent_is_closed(site, names):
    """A file that is left open is an error, by the tests' settings."""
    files = [(name, ("a.png", bytes(100_000))) for name in names]
    answer = requests.post(f"{site}/classify", files=files, timeout=PATIENCE_SECONDS)
    assert answer.status_code in (200, 400)
    gc.collect()


@pytest.mark.parametrize(
    "sent", [b"", b"G", HEAD, b"\x16\x03\x01\x02"], ids=["nothing", "a byte", "half a head", "TLS"]
)
def test_half_a_head_holds_no_connection(project, monkeypatch, sent):
    monkeypatch.setattr(web, "HEAD_SECONDS", 0.3)
    with serving(project) as (url, _):
        slow = [socket.create_connection(address(url), timeout=PATIENCE_SECONDS) for _ in range(20)]
        try:
            for connection in slow:
                connection.sendall(sent)
            start = time.monotonic()
            for connection in slow:
                received(connection)
            assert time.monotonic() - start < 5
        finally:
            for connection in slow:
                connection.close()
        assert classify(url).status_code == 200


def test_a_head_that_drips_is_cut_off(project, monkeypatch):
    monkeypatch.setattr(web, "HEAD_SECONDS", 0.5)
    with serving(project) as (url, _), socket.create_connection(address(url), timeout=PATIENCE_SECONDS) as slow:
        answered = requests_kept_alive(slow)
        assert answered.startswith(b"HTTP/1.1 200")
        with pytest.raises(ConnectionError):
            drip(slow, HEAD * 100)  # the next request of the same connection


def drip(connection, content):
    for byte in content:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def requests_kept_alive(connection):
    connection.sendall(b"GET /assets/page.js HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return connection.recv(1 << 16)


def answers(url):
    """Tells whether an image is answered; a server that is still busy may cut who waits too long."""
    with contextlib.suppress(requests.ConnectionError):
        return classify(url).status_code == 200
    return False


def test_who_does_not_read_the_answer_is_cut_off(project, monkeypatch):
    monkeypatch.setattr(web, "READING_SECONDS", 0.2)
    with serving(project, request_seconds=0.8) as (url, _), socket.socket() as slow:
        size = len(requests.get(f"{url}/assets/page.css", timeout=9).content)
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.settimeout(PATIENCE_SECONDS)
        slow.connect(address(url))
        slow.sendall(b"GET /assets/page.css HTTP/1.1\r\nHost: localhost\r\n\r\n" * 6000)
        time.sleep(4)  # far more than the system's buffers take, on a busy machine too
        assert received(slow) < 6000 * size
        until(lambda: answers(url))


def test_a_thousand_requests_at_once_are_answered_or_rejected_in_bounded_memory(project):
    content = request(png(size_px=(90, 90)), b"Connection: close\r\n")

    async def one(host, port):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(content)
            return (await reader.read())[:12]
        except ConnectionResetError:
            return b""
        finally:
            writer.close()

    async def crowd(host, port, gate):
        first = [asyncio.create_task(one(host, port)) for _ in range(100)]
        await asyncio.wait(first, timeout=2)  # four are worked on or wait for it
        rest = await asyncio.gather(*(one(host, port) for _ in range(900)))
        gate.set()
        return [answer[9:] for answer in [*await asyncio.gather(*first), *rest]]

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    memory.forget_peak()
    before = memory.peak_mib()
    with serving(project) as (url, models):
        models.gate.clear()
        host, port = address(url)
        statuses = asyncio.run(crowd(host, port, models.gate))
        assert (statuses.count(b"200"), statuses.count(b"503")) == (4, 996)
        assert models.most_at_once <= 2
        assert classify(url).status_code == 200
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert memory.peak_mib() - before < 200  # MiB, the clients' own included

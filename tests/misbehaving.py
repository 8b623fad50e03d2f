"""A local server that misbehaves in the ways of real ones: each behaviour is a function of the request's handler."""

import contextlib
import hashlib
import http.server
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Answers each request by the next of `behaviours`, the last one again and again; keeps (path, Range) of each."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviours = [whole]
        self.requests = []

    def url(self, name="file.bin"):
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def handle_error(self, request, client_address):
        """Connections that the test breaks off are no news."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self):
        self.server.requests.append((self.path.strip("/"), self.headers.get("Range")))
        behaviours = self.server.behaviours
        (behaviours.pop(0) if len(behaviours) > 1 else behaviours[0])(self)

    def do_POST(self):
        self.do_GET()

    def log_message(self, *_):
        pass

    def answer(self, status, body, length=None, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()


def answers(code, body=b"no", **headers):
    return lambda handler: handler.answer(code, body, **headers)


def redirects(where):
    return answers(302, b"", Location=where)


def serves(content):
    """A file, whole or its rest."""

    def behaviour(handler):
        start = int(handler.headers.get("Range", "bytes=0-")[6:-1])
        where = {"Content_Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        handler.answer(206 if start else 200, content[start:], **where)

    return behaviour


whole = answers(200, CONTENT)
ranged = serves(CONTENT)
other_version = serves(CONTENT[::-1])  # as it was replaced meanwhile


def breaks_off(handler):
    handler.answer(200, CONTENT[:3000], length=len(CONTENT))
    handler.close_connection = True


def stalls(handler):
    breaks_off(handler)
    threading.Event().wait(1)


def resets(handler):
    """Half an answer, then a TCP reset in place of an end."""
    breaks_off(handler)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.finish = lambda: None


def hangs_up(handler):
    handler.close_connection = True


def paced(handler):
    """The whole file in ten pieces, in a second."""
    handler.answer(200, b"", length=len(CONTENT))
    for start in range(0, len(CONTENT), 1024):
        threading.Event().wait(0.1)
        handler.wfile.write(CONTENT[start : start + 1024])


def sends(content):
    """Bytes as they are, be they HTTP or not."""

    def behaviour(handler):
        handler.wfile.write(content)
        handler.close_connection = True

    return behaviour


garbage = sends(b"\x16\x03\x01 this is no HTTP\r\n\r\n" * 9)


def drips(head, content):
    """A part of an answer, and a byte of `content` at a time after it, again and again, for ten seconds."""

    def behaviour(handler):
        with contextlib.suppress(OSError):  # the client has gone, as it should
            sends(head)(handler)
            for index in range(500):
                handler.wfile.write(content[index % len(content) :][:1])
                threading.Event().wait(0.02)

    return behaviour


OK = b"HTTP/1.1 200 OK\r\n"
DRIPS = {
    "head": drips(OK, b"X: y\r\n"),
    "body": drips(OK + b"Content-Length: %d\r\n\r\n" % len(CONTENT), b"x"),
    "body without a length": drips(OK + b"\r\n", b"x"),
    "size of a chunk": drips(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "trailer": drips(OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n", b"X: y\r\n"),
}


@contextlib.contextmanager
def running():
    """Yields a server that answers until the context ends."""
    with Server() as server, ThreadPoolExecutor(1) as pool:
        pool.submit(server.serve_forever, 0.01)
        try:
            yield server
        finally:
            server.shutdown()

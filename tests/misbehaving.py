"""A local server that misbehaves in the ways of real ones: each behaviour is a function of the request's handler."""

import contextlib
import hashlib
import http.server
import socket
import struct
import threading

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

    def start(self):
        return int(self.headers.get("Range", "bytes=0-")[6:-1])


def whole(handler):
    handler.answer(200, CONTENT)


def ranged(handler):
    start = handler.start()
    if not start:
        return handler.answer(200, CONTENT)
    where = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
    return handler.answer(206, CONTENT[start:], Content_Range=where)


def breaks_off(handler):
    handler.answer(200, CONTENT[:3000], length=len(CONTENT))
    handler.close_connection = True


def stalls(handler):
    handler.answer(200, CONTENT[:3000], length=len(CONTENT))
    threading.Event().wait(1)
    handler.close_connection = True


def paced(handler):
    """The whole file in ten pieces, in a second."""
    handler.answer(200, b"", length=len(CONTENT))
    for start in range(0, len(CONTENT), 1024):
        threading.Event().wait(0.1)
        handler.wfile.write(CONTENT[start : start + 1024])


def hangs_up(handler):
    handler.connection.close()


def wrong_range(handler):
    handler.answer(206, CONTENT[7:], Content_Range=f"bytes 7-{len(CONTENT) - 1}/{len(CONTENT)}")


def wrong_bytes(handler):
    handler.answer(200, b"x" * len(CONTENT))


def too_long(handler):
    handler.answer(200, CONTENT + b"more")


def web_page(handler):
    handler.answer(200, b"<html>please log in</html>", Content_Type="text/html; charset=utf-8")


def declared_as_gzip(handler):
    handler.answer(200, CONTENT, Content_Encoding="x-gzip")


def status(code):
    return lambda handler: handler.answer(code, b"no")


def resets(handler):
    """Half an answer, then a TCP reset in place of an end."""
    handler.answer(200, CONTENT[:3000], length=len(CONTENT))
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.finish = lambda: None


def garbage(handler):
    handler.wfile.write(b"\x16\x03\x01 this is no HTTP\r\n\r\n" * 9)
    handler.close_connection = True


def endless_head(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000)
    handler.close_connection = True


def drips(content):
    """A part of an answer, and a byte of `content` at a time after it, again and again, for ten seconds."""

    def drip(head):
        def behave(handler):
            handler.close_connection = True
            try:
                handler.wfile.write(head)
                for index in range(500):
                    handler.wfile.write(content[index % len(content) :][:1])
                    threading.Event().wait(0.02)
            except OSError:  # the client has gone, as it should
                pass

        return behave

    return drip


OK = b"HTTP/1.1 200 OK\r\n"
DRIPS = {
    "head": drips(b"X: y\r\n")(OK),
    "body": drips(b"x")(OK + b"Content-Length: %d\r\n\r\n" % len(CONTENT)),
    "body without a length": drips(b"x")(OK + b"\r\n"),
    "size of a chunk": drips(b"0")(OK + b"Transfer-Encoding: chunked\r\n\r\n"),
    "trailer": drips(b"X: y\r\n")(OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"),
}


def redirects(where):
    return lambda handler: handler.answer(302, b"", Location=where)


def other_version(handler):
    """The file as it was replaced meanwhile, whole or its rest."""
    start = handler.start()
    new = bytes(reversed(CONTENT))
    where = {"Content_Range": f"bytes {start}-{len(new) - 1}/{len(new)}"} if start else {}
    handler.answer(206 if start else 200, new[start:], **where)


@contextlib.contextmanager
def running():
    """Yields a server that answers until the context ends."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

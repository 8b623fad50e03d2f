"""What uvicorn lacks: connections that can't be held for ever, nor by too many, and an end of the process in time."""

import asyncio
import atexit
import os
import resource
import signal
import socket
import threading
from types import FrameType
from typing import ClassVar

import h11
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from stages.library.common import console

HEADERS = {
    # The browser itself rejects to load anything from elsewhere, and to show the page inside another one.
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data: blob:; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
HEAD_SECONDS, READING_SECONDS = 10.0, 30.0  # for a request's head to come, and for its answer to be read
IDLE_SECONDS = 1.0  # without a request, after which a connection makes room for another one
END_SECONDS = 2.5  # of the 3 that are promised
CONNECTIONS_PER_REQUEST, SPARE_CONNECTIONS = 4, 500
FULL = PlainTextResponse(
    "Too many connections at once. Please try again in a moment.", 503, {"Retry-After": "5", "Connection": "close"}
)


def open_files() -> int:
    """Returns how many files, connections among them, this process may have open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def most_connections(requests: int) -> int:
    """Returns how many connections are served at once where so many requests are worked on or wait."""
    return min(SPARE_CONNECTIONS + CONNECTIONS_PER_REQUEST * requests, open_files() // 4)  # each may have an upload


class LimitedConnection(H11Protocol):
    """uvicorn's protocol with limits of time, which it lacks, and of number, which it holds against everybody.

    A connection beyond a limit of time is cut. Those that came first stay: of too many, the one that has been idle
    longest makes room for a new one. Where none is idle the new one is rejected with status 503.
    """

    head_seconds: ClassVar[float]  # from a connection's start, or the answer before, to the end of a request's head
    answer_seconds: ClassVar[float]  # from there until the answer has been read
    served: ClassVar[int]  # connections at once
    held: ClassVar[int]  # those that are being rejected among them; more are cut
    connections: "set[LimitedConnection]"  # type: ignore[assignment]

    _in_head: bool | None = None
    _since = 0.0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()
        if len(self.connections) > self.served:
            self._find_room()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()  # it may have ended a head

    def on_response_complete(self) -> None:
        self._in_head = None
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()
        super().connection_lost(exc)

    def _watch(self) -> None:
        in_head = self.conn.their_state is h11.IDLE
        if in_head == self._in_head:
            return
        if self._timer:
            self._timer.cancel()
        self._in_head, self._since = in_head, self.loop.time()
        seconds = self.head_seconds if in_head else self.answer_seconds
        self._timer = self.loop.call_later(seconds, self.transport.abort)

    def _find_room(self) -> None:
        latest = self.loop.time() - IDLE_SECONDS
        idle = [other for other in self.connections if other._in_head and other._since <= latest]
        if idle:
            longest = min(idle, key=lambda other: other._since)
            self.connections.discard(longest)  # at once, for others may come before it has ended
            longest.transport.abort()
        elif len(self.connections) <= self.held:
            self.app = FULL
        else:
            self.transport.abort()


class EndingServer(uvicorn.Server):
    """A server whose process ends `END_SECONDS` after Ctrl+C or SIGTERM at most, and at once after the second one.

    Requests may end before that. What is still in the way then can't be ended from within: Python waits for threads
    that compute, and uvicorn shows a traceback for each request that it cuts off. Nothing is left behind, for an upload
    on disk has no name.
    """

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            os._exit(_exit_status(sig))
        timer = threading.Timer(END_SECONDS, os._exit, (_exit_status(sig),))
        timer.daemon = True
        timer.start()
        super().handle_exit(sig, frame)


def _exit_status(number: int) -> int:
    """Returns a program's exit status for the signal that ended it: as shells have it, but Ctrl+C closes a page."""
    return 0 if number == signal.SIGINT else 128 + number


def configuration(app: ASGIApp, connections: int, request_seconds: float) -> uvicorn.Config:
    """Returns how the server treats connections, of which it serves so many at once; see docs/web.md."""
    seconds = {"head_seconds": HEAD_SECONDS, "answer_seconds": request_seconds + READING_SECONDS}
    limits = seconds | {"served": connections, "held": open_files() // 2}
    return uvicorn.Config(
        app,
        log_config=None,  # its own closes the handlers of other libraries
        log_level="error",
        access_log=False,
        server_header=False,
        headers=list(HEADERS.items()),
        timeout_keep_alive=10,
        lifespan="off",
        ws="none",
        http=type("Connection", (LimitedConnection,), limits),
        loop="asyncio",
    )


def run(config: uvicorn.Config, listening: socket.socket) -> None:
    """Answers requests until Ctrl+C, which ends the process with status 0, or SIGTERM (143)."""
    try:
        EndingServer(config).run(sockets=[listening])  # which raises the signal again when it has ended
    except (KeyboardInterrupt, console.Stopped) as stop:  # without the seconds that Python takes to end TensorFlow
        atexit._run_exitfuncs()  # as multiprocessing ends its processes
        os._exit(_exit_status(signal.SIGTERM if isinstance(stop, console.Stopped) else signal.SIGINT))

"""Connections that can't be held open for ever, by half a request or by not reading the answer, nor by too many."""

import asyncio
from typing import Any, ClassVar

import h11
from starlette.responses import PlainTextResponse
from uvicorn.protocols.http.h11_impl import H11Protocol

IDLE_SECONDS = 1.0  # without a request, after which a connection makes room for another one
FULL = PlainTextResponse(
    "Too many connections at once. Please try again in a moment.", 503, {"Retry-After": "5", "Connection": "close"}
)


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

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self._in_head: bool | None = None
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Watches a new connection, if there is room for it."""
        super().connection_made(transport)
        self._watch()
        if len(self.connections) > self.served:
            self._find_room()

    def data_received(self, data: bytes) -> None:
        """Passes data on, which may end a head."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Begins to wait for the next request."""
        self._in_head = None
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Waits for nothing more."""
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


def limited(head_seconds: float, answer_seconds: float, served: int, held: int) -> type[LimitedConnection]:
    """Returns the protocol with such limits."""
    limits = {"head_seconds": head_seconds, "answer_seconds": answer_seconds, "served": served, "held": held}
    return type("Connection", (LimitedConnection,), limits)

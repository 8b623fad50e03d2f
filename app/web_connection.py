"""Connections that can't be held open for ever: by half a request, or by not reading the answer."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


def limited(head_seconds: float, answer_seconds: float) -> type[H11Protocol]:
    """Returns uvicorn's protocol with limits of time, which it lacks; a connection beyond them is cut.

    Args:
      head_seconds: from a connection's start, or the answer before, to the end of a request's head.
      answer_seconds: from there until the answer has been read.
    """

    class Connection(H11Protocol):
        """A connection with a timer for what it waits for."""

        def __init__(self, *arguments: Any, **options: Any):
            super().__init__(*arguments, **options)
            self._in_head: bool | None = None
            self._timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

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
            self._in_head = in_head
            seconds = head_seconds if in_head else answer_seconds
            self._timer = self.loop.call_later(seconds, self.transport.abort)

    return Connection

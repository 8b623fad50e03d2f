"""Decodes strangers' images in processes with limits of memory and CPU time, which outlive no image beyond them.

A head may lie, and a decoder may have faults that nobody knows. So no such file is decoded where a mistake would cost
more than that file: see `decoding_process` for the limits.
"""

import contextlib
import math
import mmap
import os
import signal
import socket
import struct
import tempfile
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from queue import LifoQueue
from typing import Any

import numpy as np

from stages.library.common.console import UserError
from stages.library.preparation.decoding_maker import REMEDY, Maker
from stages.library.preparation.decoding_process import (
    ANSWER,
    FORK,
    KEPT,
    LATER,
    LENGTH,
    REFUSED,
    REQUEST,
    SHARED_BYTES,
    Limits,
    ends,
)
from stages.library.preparation.normalisation import MAX_PIXELS, ImageError, Normalised, Values

BEYOND = "takes more memory or time than an image of its size may, or breaks its decoder"
TIMEVAL = struct.Struct("@ll")  # of C
Answer = tuple[tuple[Any, ...], bytes]  # the fields of ANSWER and what follows it


@dataclass(frozen=True)
class Worker:
    """A process that decodes one image at a time."""

    pid: int
    connection: socket.socket
    shared: mmap.mmap  # memory that both have: the number of the file in work, and small files

    def close(self) -> None:
        """Gives back what this process has of it; the other one ends when it has finished."""
        self.connection.close()
        self.shared.close()


class Workers:
    """Processes that decode; safe in threads. They are started when they are needed, and replaced when they end.

    They end when this is closed, no longer used, or when the process that made it ends, in whatever way.

    Args:
      count: of images decoded at once, at most; further callers wait.
      limits: of each image.
    """

    def __init__(self, count: int, limits: Limits | None = None):
        self._limits = limits or Limits()
        self._idle: LifoQueue[Worker | None] = LifoQueue()  # None: one that is to be started
        for _ in range(count):
            self._idle.put(None)
        self._maker = Maker(self._limits)
        self._end = weakref.finalize(self, _end, self._maker, self._idle)

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes, whatever they are doing."""
        self._end()

    def prepare(self) -> None:
        """Starts the first of them, so that no image need wait for it; what is wrong shows when it is needed."""
        with contextlib.suppress(UserError):
            self._maker.start()  # before there are threads, if possible
        threading.Thread(target=self._prepare, daemon=True).start()

    def _prepare(self) -> None:
        worker = self._idle.get()
        with contextlib.suppress(UserError):
            worker = worker or self._start()
        self._idle.put(worker)

    def normalise(self, content: bytes, max_pixels: int = MAX_PIXELS) -> Normalised:
        """Does what `normalisation.normalise` does; the result has no `source`.

        Raises:
          ImageError: as there, or the file takes more than it may.
          UserError: the machine can't decode.
        """
        outcome = self.normalise_some([content], max_pixels)[0]
        if isinstance(outcome, ImageError):
            raise outcome
        return outcome

    def normalise_some(self, contents: Sequence[bytes], max_pixels: int = MAX_PIXELS) -> list[Normalised | ImageError]:
        """Returns what `normalise` gives or raises for the first of some files; for at least one of them.

        Args:
          contents: at most `MAX_FILES`; small files together take little more than one.
          max_pixels: of each.
        """
        answers = self._answers(contents, max_pixels, pixels_wanted=False)
        return [
            answer if isinstance(answer, ImageError) else _normalised(content, *answer)
            for content, answer in zip(contents, answers, strict=False)
        ]

    def pixels(self, content: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
        """Returns uint8 RGB (height, width, 3) of the image that `normalise` gives; raises what it raises."""
        answer = self._answers([content], max_pixels, pixels_wanted=True)[0]
        if isinstance(answer, ImageError):
            raise answer
        head, rest = answer
        return np.frombuffer(rest, np.uint8).reshape(*head[3:5], 3)

    def _answers(self, contents: Sequence[bytes], max_pixels: int, pixels_wanted: bool) -> list[Answer | ImageError]:
        """Returns answers to the first of some files."""
        worker = self._idle.get()
        try:
            worker = worker or self._start()
            answers = self._ask(worker, contents, max_pixels, pixels_wanted)
        except BaseException as error:  # Ctrl+C, too: the rest of an answer must not be taken for the next one
            place = worker.shared[0] if worker else 0
            if worker:
                worker.close()
            self._idle.put(None)
            if not isinstance(error, ImageError):
                raise
            # Answers to the files before it were lost.
            before = self._answers(contents[:place], max_pixels, pixels_wanted) if place else []
            return [*before, error] if len(before) == place else before
        self._idle.put(worker)
        return answers

    def _ask(
        self, worker: Worker, contents: Sequence[bytes], max_pixels: int, pixels_wanted: bool
    ) -> list[Answer | ImageError]:
        """Returns a worker's answers; ImageError where it has ended over the file in work."""
        lengths = list(map(len, contents))
        seconds = math.ceil(sum(self._limits.clock(length, max_pixels) for length in lengths))
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            worker.connection.setsockopt(socket.SOL_SOCKET, option, TIMEVAL.pack(seconds, 0))
        worker.shared[0], given_up = 0, False
        head = REQUEST.pack(len(contents), max_pixels, pixels_wanted) + b"".join(map(LENGTH.pack, lengths))
        try:
            if sum(lengths) <= SHARED_BYTES:
                for content, length, end in zip(contents, lengths, ends(lengths), strict=True):
                    worker.shared[end - length : end] = content
            worker.connection.sendall(head)
            if sum(lengths) > SHARED_BYTES:
                for content in contents:
                    worker.connection.sendall(content)
            return self._receive(worker.connection, len(contents))
        except BlockingIOError:
            given_up = True
        except (ConnectionError, EOFError):
            pass
        os.kill(worker.pid, signal.SIGKILL)  # ended or not: its number is not free before it is asked for
        if self._maker.tell(worker.pid) == -signal.SIGKILL and not given_up:
            raise UserError(f"a process that decodes images was killed. {REMEDY}")
        raise ImageError(BEYOND)

    def _receive(self, connection: socket.socket, count: int) -> list[Answer | ImageError]:
        answers: list[Answer | ImageError] = []
        while len(answers) < count:
            head = ANSWER.unpack(_exactly(connection, ANSWER.size))
            kind, length = head[:2]
            if kind == LATER:
                break
            rest = _exactly(connection, length) if length else b""
            answers.append(ImageError(rest.decode()) if kind == REFUSED else (head, rest))
        return answers

    def _start(self) -> Worker:
        ours, theirs = socket.socketpair()
        descriptor = _memory()
        os.truncate(descriptor, 1 + SHARED_BYTES)
        shared = mmap.mmap(descriptor, 1 + SHARED_BYTES)
        try:
            with theirs:
                return Worker(self._maker.tell(FORK, theirs.fileno(), descriptor), ours, shared)
        except UserError:
            ours.close()
            raise
        finally:
            os.close(descriptor)


def _end(maker: Maker, idle: "LifoQueue[Worker | None]") -> None:
    maker.end()
    for worker in [idle.get() for _ in range(idle.qsize())]:
        if worker:
            worker.close()
        idle.put(None)  # whoever comes now is told


def _memory() -> int:
    """Returns the descriptor of an empty file in memory, which Linux has; elsewhere of a file without a name."""
    if make := getattr(os, "memfd_create", None):
        return int(make("images"))
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _exactly(connection: socket.socket, length: int) -> bytes:
    content = connection.recv(length, socket.MSG_WAITALL)
    if len(content) < length:
        raise EOFError
    return content


def _normalised(content: bytes, head: tuple[Any, ...], rest: bytes) -> Normalised:
    kind, _, is_png, height, width, *values, key = head
    encoded = content if kind == KEPT else rest
    return Normalised(encoded, "png" if is_png else "jpeg", height, width, key.hex(), Values(*values))

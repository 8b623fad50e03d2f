"""Decodes strangers' pictures in processes with limits of memory and CPU time, which outlive no picture beyond them.

A head may lie, and a decoder may have faults that nobody knows. So no such file is decoded where a mistake would cost
more than that file: see `decoding_process` for the limits.
"""

import json
import math
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import weakref
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import LifoQueue
from typing import Any

import numpy as np

from stages.library import decoding_process
from stages.library.console import UserError
from stages.library.decoding_process import ANSWER, CONTROL, FORK, KEPT, PIXELS, REFUSED, REQUEST, Limits
from stages.library.pictures import MAX_PIXELS, Normalised, PictureError, Values

ROOT = Path(__file__).parents[2]
BEYOND = "takes more memory or time than a picture of its size may, or breaks its decoder"
REMEDY = "Most likely the machine has too little memory left: end other programs, or take pictures of fewer pixels"
TIMEVAL = struct.Struct("@ll")  # of C
Head = tuple[Any, ...]  # as ANSWER has it


@dataclass(frozen=True)
class Worker:
    """A process that decodes one picture at a time.

    Attributes:
      pid: of the process.
      connection: to it.
    """

    pid: int
    connection: socket.socket


class Workers:
    """Processes that decode; safe in threads. They are started when they are needed, and replaced when they end.

    They end when this is closed, no longer used, or when the process that made it ends, in whatever way.

    Args:
      count: of pictures decoded at once, at most; further callers wait.
      limits: of each picture.
    """

    def __init__(self, count: int, limits: Limits | None = None):
        self._limits = limits or Limits()
        self._idle: LifoQueue[Worker | None] = LifoQueue()
        for _ in range(count):
            self._idle.put(None)
        self._lock = threading.Lock()
        self._control, theirs = socket.socketpair()
        single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MALLOC_ARENA_MAX"), "1")
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        with theirs:
            try:
                process = subprocess.Popen(  # noqa: S603
                    [sys.executable, "-m", decoding_process.__name__, json.dumps(asdict(self._limits))],
                    stdin=theirs,
                    stdout=subprocess.DEVNULL,
                    env=os.environ | single | {"PYTHONPATH": path},
                    start_new_session=True,  # Ctrl+C is for this process alone, which then ends them
                )
            except OSError as error:
                self._control.close()
                raise UserError(f"no process to decode pictures can be started: {error.strerror}. {REMEDY}") from error
        self._end = weakref.finalize(self, _end, process, self._control, self._idle)

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes, whatever they are doing."""
        self._end()

    def normalise(self, content: bytes, max_pixels: int = MAX_PIXELS) -> Normalised:
        """Does what `pictures.normalise` does; the result has no `source`.

        Raises:
          PictureError: as there, or the file takes more than it may.
          UserError: the machine can't decode.
        """
        head, rest = self._exchange(content, max_pixels, pixels_wanted=False)
        kind, _, is_png, height, width, minimum, maximum, total, count, key = head
        values = Values(minimum, maximum, total, count)
        encoded = content if kind == KEPT else rest
        return Normalised(encoded, "png" if is_png else "jpeg", height, width, key.hex(), values)

    def pixels(self, content: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
        """Returns uint8 RGB (height, width, 3) of the picture that `normalise` gives; raises what it raises."""
        (_, _, _, height, width, *_), rest = self._exchange(content, max_pixels, pixels_wanted=True)
        return np.frombuffer(rest, np.uint8).reshape(height, width, 3)

    def _exchange(self, content: bytes, max_pixels: int, pixels_wanted: bool) -> tuple[Head, bytes]:
        """Returns the head of a worker's answer, and what follows it."""
        worker = self._idle.get()
        try:
            worker = worker or self._start()
            head, rest = self._ask(worker, content, max_pixels, pixels_wanted)
        except BaseException:  # Ctrl+C, too: the rest of an answer must not be taken for the next one
            if worker:
                worker.connection.close()
            self._idle.put(None)
            raise
        self._idle.put(worker)
        if head[0] == REFUSED:
            raise PictureError(rest.decode())
        return head, rest

    def _ask(self, worker: Worker, content: bytes, max_pixels: int, pixels_wanted: bool) -> tuple[Head, bytes]:
        connection, given_up = worker.connection, False
        seconds = TIMEVAL.pack(math.ceil(self._limits.clock(len(content), max_pixels)), 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, seconds)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, seconds)
        try:
            connection.sendall(REQUEST.pack(len(content), max_pixels, pixels_wanted))
            connection.sendall(content)
            head = connection.recv(ANSWER.size, socket.MSG_WAITALL)
            if len(head) == ANSWER.size:
                fields = ANSWER.unpack(head)
                rest = connection.recv(fields[1], socket.MSG_WAITALL)
                if len(rest) == fields[1]:
                    return fields, rest
        except BlockingIOError:
            given_up = True
        except ConnectionError:
            pass
        os.kill(worker.pid, signal.SIGKILL)  # it has ended or will not, and its number is not free before it is asked for
        if self._tell(worker.pid) == -signal.SIGKILL and not given_up:
            raise UserError(f"a process that decodes pictures was killed. {REMEDY}")
        raise PictureError(BEYOND)

    def _start(self) -> Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            pid = self._tell(FORK, theirs.fileno())
        if pid < 0:
            ours.close()
            raise UserError(f"no process to decode pictures can be started: {os.strerror(-pid)}. {REMEDY}")
        return Worker(pid, ours)

    def _tell(self, request: int, *descriptors: int) -> int:
        """Returns the answer of the process that makes the workers."""
        with self._lock:
            try:
                socket.send_fds(self._control, [CONTROL.pack(request)], descriptors)
                answer = self._control.recv(CONTROL.size, socket.MSG_WAITALL)
            except OSError:
                answer = b""
        if len(answer) < CONTROL.size:
            raise UserError(f"the processes that decode pictures have ended. {REMEDY}")
        return int(CONTROL.unpack(answer)[0])


def _end(process: "subprocess.Popen[bytes]", control: socket.socket, idle: "LifoQueue[Worker | None]") -> None:
    os.killpg(process.pid, signal.SIGKILL)  # all of them are in its group
    process.wait()
    control.close()
    while not idle.empty():
        if worker := idle.get():
            worker.connection.close()

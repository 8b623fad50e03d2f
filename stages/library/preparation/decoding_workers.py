"""Decodes strangers' images in processes with limits of memory and CPU time, which outlive no image beyond them.

A head may lie, and a decoder may have faults that nobody knows. So no such file is decoded where a mistake would cost
more than that file: see `decoding_process` for the limits.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from queue import LifoQueue
from typing import Any, NamedTuple

import numpy as np

from stages.library.common.console import UserError
from stages.library.preparation import decoding_process
from stages.library.preparation.decoding_process import ANSWER, CONTROL, FORK, KEPT, LENGTH, REFUSED, REQUEST, Limits
from stages.library.preparation.normalisation import MAX_PIXELS, ImageError, Normalised, Values

ROOT = Path(__file__).parents[3]
BEYOND = "takes more memory or time than an image of its size may, or breaks its decoder"
REMEDY = "Most likely the machine has too little memory left: end other programs, or take images of fewer pixels"
SINGLE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MALLOC_ARENA_MAX"), "1")
Answer = tuple[tuple[Any, ...], bytes]  # the fields of ANSWER and what follows them


def alone() -> bool:
    """Tells whether this process can be copied: it has no threads, whose locks a copy would wait for without end."""
    return threading.active_count() == 1 and "tensorflow" not in sys.modules


def _not_started(number: int | None) -> UserError:
    return UserError(f"no process to decode images can be started: {os.strerror(number or 0)}. {REMEDY}")


class Maker:
    """Runs `decoding_process`, which makes the workers, from the first request on; safe in threads."""

    def __init__(self, limits: Limits):
        self.pid = 0  # of the process, and of the session of all that it makes; 0 before it has started
        self._limits = limits
        self._starting, self._asking = threading.Lock(), threading.Lock()
        self._wait: Callable[[], object]
        self._control, self._theirs = socket.socketpair()

    def start(self) -> None:
        """Starts the process, or raises UserError; does not wait for it."""
        with self._starting:
            if self.pid or self._theirs.fileno() < 0:
                return
            try:  # a copy if possible, for a new process takes a quarter of a second of CPU time
                self.pid, self._wait = self._copied() if alone() else self._spawned()
            except OSError as error:
                raise _not_started(error.errno) from error
            self._theirs.close()

    def _spawned(self) -> tuple[int, Callable[[], object]]:
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", decoding_process.__name__, json.dumps(asdict(self._limits))],
            stdin=self._theirs.fileno(),
            stdout=subprocess.DEVNULL,
            env=os.environ | SINGLE | {"PYTHONPATH": path},
            start_new_session=True,  # Ctrl+C is for this process alone, which then ends them
        )
        return process.pid, process.wait

    def _copied(self) -> tuple[int, Callable[[], object]]:
        with warnings.catch_warnings(action="ignore"):  # from Python 3.12 on: of NumPy's threads, which are idle
            process = os.fork()
        if process:
            return process, lambda: os.waitpid(process, 0)
        try:
            os.setsid()  # Ctrl+C is for the other process alone
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            os.dup2(self._theirs.fileno(), decoding_process.CONTROL_FD)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.closerange(3, 1 << 16)  # its copy of our end of the socket, too, or it would never see that we ended
            decoding_process.serve(self._limits)
        finally:
            os._exit(1)

    def tell(self, request: int, *descriptors: int) -> int:
        """Returns the answer to FORK, with a socket's descriptor, or to the id of a worker that is to be ended.

        Raises:
          UserError: the process has ended, or the system rejects a new one.
        """
        self.start()
        answer = b""
        with self._asking, contextlib.suppress(OSError):
            socket.send_fds(self._control, [CONTROL.pack(request)], descriptors)
            answer = self._control.recv(CONTROL.size, socket.MSG_WAITALL)
        if len(answer) < CONTROL.size:
            raise UserError(f"the processes that decode images have ended. {REMEDY}")
        (number,) = CONTROL.unpack(answer)
        if request == FORK and number < 0:
            raise _not_started(-number)
        return int(number)

    def end(self) -> None:
        """Ends the process and all that it has made, whatever they are doing."""
        with self._starting:
            if self.pid:
                with contextlib.suppress(ProcessLookupError):  # a copy that does not lead its session yet
                    os.killpg(self.pid, signal.SIGKILL)
                os.kill(self.pid, signal.SIGKILL)
                self._wait()
            self._theirs.close()
            self._control.close()


class Worker(NamedTuple):
    """A process that decodes one image at a time."""

    pid: int
    connection: socket.socket
    stream: Any  # of the answers

    def close(self) -> None:
        """Closes this side; the other one ends when it has finished."""
        self.stream.close()
        self.connection.close()

    def read(self, length: int) -> bytes:
        content: bytes = self.stream.read(length)
        if len(content) < length:
            raise EOFError
        return content


class Workers(contextlib.AbstractContextManager["Workers"]):
    """Processes that decode; safe in threads. They are started when they are needed, and replaced when they end.

    At most `count` images are decoded at once; further callers wait. The processes end when this is closed, no longer
    used, or when the process that made it ends, in whatever way.
    """

    def __init__(self, count: int, limits: Limits | None = None):
        self._limits = limits or Limits()
        self._idle: LifoQueue[Worker | None] = LifoQueue()  # None: one that is to be started
        for _ in range(count):
            self._idle.put(None)
        self._maker = Maker(self._limits)
        self.close = weakref.finalize(self, _end, self._maker, self._idle)  # ends them, whatever they are doing

    def __exit__(self, *_: object) -> None:
        self.close()

    def prepare(self) -> None:
        """Starts the first of them; what is wrong shows when it is needed."""
        with contextlib.suppress(UserError):
            self._maker.start()  # before there are threads, if possible
        threading.Thread(target=self._prepare, daemon=True).start()

    def _prepare(self) -> None:
        with contextlib.suppress(UserError), self._worker():
            pass

    def normalise(self, content: bytes, max_pixels: int = MAX_PIXELS) -> Normalised:
        """Does what `normalisation.normalise` does; the result has no `source`.

        Raises ImageError also where the file takes more than it may, and UserError where the machine can't decode.
        """
        outcome = self.normalise_some([content], max_pixels)[0]
        if isinstance(outcome, ImageError):
            raise outcome
        return outcome

    def normalise_some(self, contents: Sequence[bytes], max_pixels: int = MAX_PIXELS) -> list[Normalised | ImageError]:
        """Returns what `normalise` gives or raises for the first of at most `MAX_FILES` files, one at least."""
        try:
            answers = self._answers(contents, max_pixels, pixels_wanted=False)
        except ImageError as error:
            if len(contents) == 1:
                return [error]
            # Which of them it was is not known, and the answers to the others were lost.
            outcomes, size = [], 0
            for content in contents:
                (outcome,) = self.normalise_some([content], max_pixels)
                outcomes.append(outcome)
                size += len(getattr(outcome, "encoded", b""))
                if size > decoding_process.LARGE_BYTES:
                    break
            return outcomes
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

    @contextlib.contextmanager
    def _worker(self) -> Iterator[Worker]:
        worker = self._idle.get()
        try:
            worker = worker or self._start()
            yield worker
        except BaseException:  # Ctrl+C, too: the rest of an answer must not be taken for the next one
            if worker:
                worker.close()
            worker = None
            raise
        finally:
            self._idle.put(worker)

    def _answers(self, contents: Sequence[bytes], max_pixels: int, pixels_wanted: bool) -> list[Answer | ImageError]:
        """Returns a worker's answers to the first of some files; raises ImageError where it has ended over them."""
        lengths = list(map(len, contents))
        request = REQUEST.pack(len(contents), max_pixels, pixels_wanted) + b"".join(map(LENGTH.pack, lengths))
        with self._worker() as worker:
            worker.connection.settimeout(sum(self._limits.clock(length, max_pixels) for length in lengths))
            try:
                worker.connection.sendall(request)
                worker.connection.sendall(b"".join(contents))
                heads = [ANSWER.unpack(worker.read(ANSWER.size)) for _ in range(worker.read(1)[0])]
                answers = [(head, worker.read(head[1])) for head in heads]
            except (TimeoutError, ConnectionError, EOFError) as error:
                status = self._maker.tell(worker.pid)
                if status == -signal.SIGKILL and not isinstance(error, TimeoutError):
                    raise UserError(f"a process that decodes images was killed. {REMEDY}") from error
                raise ImageError(BEYOND) from error
        return [ImageError(rest.decode()) if head[0] == REFUSED else (head, rest) for head, rest in answers]

    def _start(self) -> Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                pid = self._maker.tell(FORK, theirs.fileno())
            except UserError:
                ours.close()
                raise
        return Worker(pid, ours, ours.makefile("rb", decoding_process.BATCH_BYTES))


def _end(maker: Maker, idle: "LifoQueue[Worker | None]") -> None:
    maker.end()
    for worker in [idle.get() for _ in range(idle.qsize())]:
        if worker:
            worker.close()
        idle.put(None)  # whoever comes now is told


def _normalised(content: bytes, head: tuple[Any, ...], rest: bytes) -> Normalised:
    kind, _, is_png, height, width, *values, key = head
    encoded = content if kind == KEPT else rest
    return Normalised(encoded, "png" if is_png else "jpeg", height, width, key.hex(), Values(*values))

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
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from queue import LifoQueue
from typing import Any, NamedTuple

import numpy as np

from stages.library.common.console import UserError
from stages.library.preparation import decoding_process as process
from stages.library.preparation.decoding_process import ANSWER, FORMATS, LENGTH, REFUSED, REQUEST, Limits
from stages.library.preparation.normalisation import MAX_PIXELS, ImageError, Normalised, Values

ROOT = Path(__file__).parents[3]
BEYOND = "takes more memory or time than an image of its size may, or breaks its decoder"
REMEDY = "Most likely the machine has too little memory left: end other programs, or take images of fewer pixels"
ENDED = f"the processes that decode images have ended. {REMEDY}"
# What ended a process, where that is no fault of the image: by its exit status.
OTHER_ENDS = {-signal.SIGKILL: f"a process that decodes images was killed. {REMEDY}", 1: ENDED}
SINGLE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MALLOC_ARENA_MAX"), "1")
Answer = tuple[tuple[Any, ...], bytes]  # the fields of ANSWER and what follows them


class Worker(NamedTuple):
    """A process that decodes one image at a time."""

    process: subprocess.Popen[bytes]
    connection: socket.socket
    stream: Any  # of the answers

    def read(self, length: int) -> bytes:
        content: bytes = self.stream.read(length)
        if len(content) < length:
            raise EOFError
        return content

    def end(self) -> int:
        """Ends the process, whatever it is doing; returns its exit status."""
        self.process.kill()
        return self.process.wait()

    def close(self) -> None:
        self.end()
        self.stream.close()
        self.connection.close()


class Workers(contextlib.AbstractContextManager["Workers"]):
    """At most `count` processes that decode, started when needed and replaced when they end; safe in threads.

    They end when this is closed or no longer used, and, however the process that made it ends, with their image.
    """

    def __init__(self, count: int, limits: Limits | None = None):
        self._limits = limits or Limits()
        self._idle: LifoQueue[Worker | None] = LifoQueue()  # None: one that is to be started
        for _ in range(count):
            self._idle.put(None)
        self._started: set[Worker] = set()
        self.close = weakref.finalize(self, _end, self._started, self._idle)  # ends them, whatever they are doing

    def __exit__(self, *_: object) -> None:
        self.close()

    def prepare(self) -> None:
        """Starts the first of them, without waiting for it; what is wrong shows when it is needed."""
        with contextlib.suppress(UserError), self._worker():
            pass

    def normalise(self, content: bytes, max_pixels: int = MAX_PIXELS) -> Normalised:
        """Does what `normalisation.normalise` does. ImageError: also beyond limits; UserError: it can't run."""
        (outcome,) = self.normalise_some([content], max_pixels)
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
            outcomes: list[Normalised | ImageError] = []
            for content in contents:
                outcomes += self.normalise_some([content], max_pixels)
                if sum(len(getattr(outcome, "encoded", b"")) for outcome in outcomes) > process.LARGE_BYTES:
                    break
            return outcomes
        return [_normalised(content, *answer) for content, answer in zip(contents, answers, strict=False)]

    def pixels(self, content: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
        """Returns uint8 RGB (height, width, 3) of the image that `normalise` gives; raises what it raises."""
        ((kind, _, height, width, *_), rest), *_ = self._answers([content], max_pixels, pixels_wanted=True)
        if kind == REFUSED:
            raise ImageError(rest.decode())
        return np.frombuffer(rest, np.uint8).reshape(height, width, 3)

    def _answers(self, contents: Sequence[bytes], max_pixels: int, pixels_wanted: bool) -> list[Answer]:
        """Returns a worker's answers to the first of some files; raises ImageError where it has ended over them."""
        lengths = list(map(len, contents))
        request = REQUEST.pack(len(contents), max_pixels, pixels_wanted) + b"".join(map(LENGTH.pack, lengths))
        with self._worker() as worker:
            worker.connection.settimeout(sum(self._limits.clock(length, max_pixels) for length in lengths))
            try:
                worker.connection.sendall(request)
                worker.connection.sendall(b"".join(contents))
                heads = [ANSWER.unpack(worker.read(ANSWER.size)) for _ in range(worker.read(1)[0])]
                return [(head, worker.read(head[1])) for head in heads]
            except (TimeoutError, ConnectionError, EOFError) as error:
                status = worker.end()
                if status in OTHER_ENDS and not isinstance(error, TimeoutError):
                    raise UserError(OTHER_ENDS[status]) from error
                raise ImageError(BEYOND) from error

    @contextlib.contextmanager
    def _worker(self) -> Iterator[Worker]:
        worker: Worker | None = None
        try:
            worker = self._idle.get() or self._start()
            yield worker
        except BaseException:  # Ctrl+C, too: the rest of an answer must not be taken for the next one
            if worker:
                self._started.discard(worker)
                worker.close()
            worker = None
            raise
        finally:
            self._idle.put(worker)

    def _start(self) -> Worker:
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                started = subprocess.Popen(  # noqa: S603
                    [sys.executable, "-m", process.__name__, json.dumps(asdict(self._limits))],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,  # some decoders print what a file says
                    env=os.environ | SINGLE | {"PYTHONPATH": path},
                    start_new_session=True,  # Ctrl+C is for this process alone, which then ends them
                )
            except OSError as error:
                ours.close()
                raise UserError(
                    f"no process to decode images can be started: {os.strerror(error.errno or 0)}. {REMEDY}"
                ) from error
        worker = Worker(started, ours, ours.makefile("rb", process.BATCH_BYTES))
        self._started.add(worker)
        if not self.close.alive:  # closed meanwhile, perhaps before this one could be ended
            worker.close()
            raise UserError(ENDED)
        return worker


def _end(started: set[Worker], idle: "LifoQueue[Worker | None]") -> None:
    for worker in list(started):
        worker.end()
    for resting in [idle.get() for _ in range(idle.qsize())]:
        if resting:
            resting.close()
        idle.put(None)  # whoever comes now is told


def _normalised(content: bytes, head: tuple[Any, ...], rest: bytes) -> Normalised | ImageError:
    kind, _, height, width, *values, key = head
    if kind == REFUSED:
        return ImageError(rest.decode())
    return Normalised(rest or content, FORMATS[kind], height, width, key.hex(), Values(*values))

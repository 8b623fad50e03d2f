"""The process in which strangers' images are decoded, under limits; `decoding_workers` starts it and talks to it.

It loads Pillow once and then divides: each worker is a copy of it that reads images from a socket of its own, and is
there within milliseconds. Before each image a worker sets the limits anew, by what the file's size and the head let
expect. What goes beyond them ends the worker and nothing else. A worker opens no file: so it starts no program either.
"""

import gc
import importlib
import json
import math
import os
import resource
import signal
import socket
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from PIL import AvifImagePlugin

from stages.library.figures import thumbnails
from stages.library.preparation import normalisation
from stages.library.preparation.normalisation import ImageError

REQUEST = struct.Struct(">BQ?")  # number of files, most pixels of each, whether the pixels are wanted
LENGTH = struct.Struct(">Q")  # of each file; then come the files
# Of small files in a request: both sides sleep less often, for such an image takes no longer than to wake a process.
BATCH_BYTES, MAX_FILES = 1 << 20, 32
# The answer to a request: a byte that counts the images in it, the first of the request, and for each of them this:
# kind, length of what follows, whether PNG, height, width, smallest and largest value, their sum and count, sha256.
# Then what follows of each.
ANSWER = struct.Struct(">cQ?IIBBQQ32s")
REFUSED, KEPT, ENCODED, PIXELS = b"R", b"K", b"E", b"P"
LARGE_BYTES = 4 << 20  # of an answer, after which it holds no further image
CONTROL = struct.Struct(">q")  # to it: process id of a worker to be ended, or FORK; from it: its status, or a new id
FORK = 0
CONTROL_FD = 0

STATM = Path("/proc/self/statm")
STEP_BYTES = 64 << 20  # of the limit of memory, so that few images change it
# What Pillow imports on its way to some images, when no file can be opened any more.
IMPORTED_LATER = ("ImageChops", "ImageCms", "ImageColor", "ImageFile", "ImageMode", "ImagePalette", "ImageSequence")


@dataclass(frozen=True)
class Limits:
    """What an image may cost, about three times what good ones do; docs/reliability.md has the measurements."""

    memory_bytes: int = 256 << 20  # beside what the process has at rest
    bytes_per_pixel: int = 48  # further memory, when the head has been checked
    bytes_per_byte: int = 3  # further memory for each byte of the file, of which some decoders make copies
    cpu_seconds: float = 2.0  # of any image
    seconds_per_megapixel: float = 0.5  # further ones, when the head has been checked
    seconds_per_megabyte: float = 0.6  # further ones for the file, as JPEG 2000 takes
    stall_seconds: float = 60.0  # of the clock, beside ten times the CPU time: for what waits and does nothing

    def memory(self, length: int, pixels: int) -> int:
        """Returns the bytes that a file of some length and pixels may take; without pixels, its head alone."""
        return self.memory_bytes + self.bytes_per_byte * length + self.bytes_per_pixel * pixels

    def cpu(self, length: int, pixels: int) -> float:
        """Returns the seconds of CPU time that it may take."""
        further = (self.seconds_per_megapixel * pixels + self.seconds_per_megabyte * length) / 1e6
        return self.cpu_seconds + (further if pixels else 0)

    def clock(self, length: int, pixels: int) -> float:
        """Returns the seconds of the clock after which it is given up."""
        return self.stall_seconds + 10 * self.cpu(length, pixels)


class Meter:
    """Sets the limits of this process, by those of each image."""

    def __init__(self, limits: Limits):
        self._limits = limits
        self._statm = os.open(STATM, os.O_RDONLY) if STATM.exists() else None  # elsewhere memory can't be limited
        self._most = {kind: resource.getrlimit(kind)[1] for kind in (resource.RLIMIT_AS, resource.RLIMIT_CPU)}
        self._now: dict[int, int] = {}
        self._rest = 0

    def start(self) -> None:
        """Takes what the process has now as what it has at rest."""
        if self._statm is not None:
            self._rest = int(os.pread(self._statm, 64, 0).split()[0]) * resource.getpagesize()

    def allow(self, length: int, pixels: int = 0) -> None:
        """Lets the process have what a file of some length and pixels may take, more than at the start."""
        if self._statm is not None:
            memory = self._rest + self._limits.memory(length, pixels)
            self._limit(resource.RLIMIT_AS, math.ceil(memory / STEP_BYTES) * STEP_BYTES)
        self._limit(resource.RLIMIT_CPU, math.ceil(time.process_time() + self._limits.cpu(length, pixels)))

    def _limit(self, kind: int, value: int) -> None:
        if value != self._now.get(kind):
            most = self._most[kind]  # which a shell or a batch system may have set, and no process may raise
            resource.setrlimit(kind, (value if most == resource.RLIM_INFINITY else min(value, most), most))
            self._now[kind] = value


def serve(limits: Limits) -> NoReturn:
    """Makes and ends workers as it is told, until its socket's other side is closed; then it ends with all of them."""
    for name in IMPORTED_LATER:
        importlib.import_module(f"PIL.{name}")
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # each would take address space, and the workers share the cores already
    gc.freeze()
    control = socket.socket(fileno=CONTROL_FD)
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, CONTROL.size, 1)
        if not message:
            os.killpg(0, signal.SIGKILL)  # it leads a group of its own
        (request,) = CONTROL.unpack(message)
        if request == FORK:
            answer = _fork(descriptors[0], limits)
            os.close(descriptors[0])
        else:
            os.kill(request, signal.SIGKILL)  # ended or not: its number is not free before it is waited for
            answer = os.waitstatus_to_exitcode(os.waitpid(request, 0)[1])
        control.sendall(CONTROL.pack(answer))


def _fork(descriptor: int, limits: Limits) -> int:
    """Returns the process id of a new worker, or the negative number of the system's error."""
    try:
        process = os.fork()
    except OSError as error:
        return -(error.errno or 1)
    if process == 0:
        try:
            _work(socket.socket(fileno=descriptor), limits)
        finally:
            os._exit(1)
    return process


def _work(connection: socket.socket, limits: Limits) -> None:
    """Answers one request after the other, until the other side closes its socket."""
    stream = connection.makefile("rb", BATCH_BYTES)
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):  # some decoders print what a file says
        os.dup2(nothing, standard)
    meter = Meter(limits)
    for kind in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE):
        resource.setrlimit(kind, (0, 0))
    while request := stream.read(REQUEST.size):
        count, max_pixels, pixels_wanted = REQUEST.unpack(request)
        lengths = [length for (length,) in LENGTH.iter_unpack(stream.read(count * LENGTH.size))]
        meter.start()
        meter.allow(sum(lengths))
        heads, parts = b"", []
        for content in [stream.read(length) for length in lengths]:
            meter.allow(len(content))
            head, part = _answer(content, max_pixels, pixels_wanted, meter)
            heads += head
            parts.append(part)
            if sum(map(len, parts)) > LARGE_BYTES:
                break
        connection.sendall(bytes([len(parts)]) + heads)
        connection.sendall(b"".join(parts))


def _answer(content: bytes, max_pixels: int, pixels_wanted: bool, meter: Meter) -> tuple[bytes, bytes]:
    """Returns the answer to an image, and what follows it."""
    try:
        found = normalisation.normalise(content, max_pixels, lambda pixels: meter.allow(len(content), pixels))
        pixels = thumbnails.decode(found.encoded) if pixels_wanted else None
    except ImageError as error:
        if isinstance(error.__cause__, MemoryError):
            os._exit(1)
        reason = str(error).encode("utf-8", "replace")
        return ANSWER.pack(REFUSED, len(reason), False, 0, 0, 0, 0, 0, 0, b""), reason
    kind, part = ENCODED, found.encoded
    if pixels is not None:
        kind, part = PIXELS, pixels.tobytes()
    elif found.encoded is content:
        kind, part = KEPT, b""
    values = found.values
    head = ANSWER.pack(
        kind, len(part), found.format == "png", found.height, found.width,
        values.minimum, values.maximum, values.total, values.count, bytes.fromhex(found.key),
    )  # fmt: skip
    return head, part


if __name__ == "__main__":
    serve(Limits(**json.loads(sys.argv[1])))

"""The process in which strangers' images are decoded, under limits; `decoding_workers` starts it and talks to it.

Before each image it sets its limits anew, by what the file's size and the head let expect. What goes beyond them ends
the process and nothing else. It opens no file: so it starts no program either.
"""

import functools
import importlib
import json
import math
import os
import resource
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path

from PIL import AvifImagePlugin

from stages.library.figures import thumbnails
from stages.library.preparation import normalisation
from stages.library.preparation.normalisation import ImageError

REQUEST = struct.Struct(">BQ?")  # number of files, most pixels of each, whether the pixels are wanted
LENGTH = struct.Struct(">Q")  # of each file; then come the files
# Of small files in a request: both sides sleep less often, for such an image takes no longer than to wake a process.
BATCH_BYTES, MAX_FILES = 1 << 20, 32
# The answer to a request: a byte that counts the images in it, the first of the request, and for each of them this:
# kind, length of what follows, height, width, smallest and largest value, their sum and count, sha256. Then for each
# the reason, the pixels, or the normalised image, or nothing where that is the file itself.
ANSWER = struct.Struct(">cQIIBBQQ32s")
REFUSED, FORMATS = b"R", {b"J": "jpeg", b"P": "png"}
LARGE_BYTES = 4 << 20  # of an answer, after which it holds no further image
BEYOND_STATUS = 3  # of the process, where an image has ended it; 1 is Python's own, for a process that can't start

STATM = Path("/proc/self/statm")
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

    def cpu(self, length: int, pixels: int) -> float:
        """Returns the seconds of CPU time that a file of some length and pixels may take; without pixels, its head."""
        further = (self.seconds_per_megapixel * pixels + self.seconds_per_megabyte * length) / 1e6
        return self.cpu_seconds + (further if pixels else 0)

    def clock(self, length: int, pixels: int) -> float:
        """Returns the seconds of the clock after which it is given up."""
        return self.stall_seconds + 10 * self.cpu(length, pixels)


def _limit(kind: int, value: int) -> None:
    most = resource.getrlimit(kind)[1]  # which a shell or a batch system may have set, and no process may raise
    resource.setrlimit(kind, (value if most == resource.RLIM_INFINITY else min(value, most), most))


def serve(connection: socket.socket, limits: Limits) -> None:
    """Answers one request after the other, until the other side closes its socket."""
    for name in IMPORTED_LATER:
        importlib.import_module(f"PIL.{name}")
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # each would take address space, and the workers share the cores already
    stream = connection.makefile("rb", BATCH_BYTES)
    statm = os.open(STATM, os.O_RDONLY) if STATM.exists() else None  # elsewhere memory can't be limited
    rest_bytes = 0
    for kind in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE):
        resource.setrlimit(kind, (0, 0))

    def allow(length: int, pixels: int = 0) -> None:
        """Lets the process have what a file of some length and pixels may take, more than at rest."""
        if statm is not None:
            further = limits.memory_bytes + limits.bytes_per_byte * length + limits.bytes_per_pixel * pixels
            _limit(resource.RLIMIT_AS, rest_bytes + further)
        _limit(resource.RLIMIT_CPU, math.ceil(time.process_time() + limits.cpu(length, pixels)))

    try:
        while request := stream.read(REQUEST.size):
            count, max_pixels, pixels_wanted = REQUEST.unpack(request)
            lengths = [length for (length,) in LENGTH.iter_unpack(stream.read(count * LENGTH.size))]
            if statm is not None:
                rest_bytes = int(os.pread(statm, 64, 0).split()[0]) * resource.getpagesize()
            allow(sum(lengths))
            heads, parts = b"", []
            for content in [stream.read(length) for length in lengths]:
                allow(len(content))
                head, part = _answer(content, max_pixels, pixels_wanted, functools.partial(allow, len(content)))
                heads += head
                parts.append(part)
                if sum(map(len, parts)) > LARGE_BYTES:
                    break
            connection.sendall(bytes([len(parts)]) + heads)
            connection.sendall(b"".join(parts))
    finally:
        os._exit(BEYOND_STATUS)


def _answer(content: bytes, max_pixels: int, pixels_wanted: bool, allow: Callable[[int], None]) -> tuple[bytes, bytes]:
    """Returns the answer to an image, and what follows it."""
    try:
        found = normalisation.normalise(content, max_pixels, allow)
        if pixels_wanted:
            part = thumbnails.decode(found.encoded).tobytes()
        else:
            part = b"" if found.encoded is content else found.encoded
    except ImageError as error:
        if isinstance(error.__cause__, MemoryError):
            raise
        reason = str(error).encode("utf-8", "replace")
        return ANSWER.pack(REFUSED, len(reason), 0, 0, 0, 0, 0, 0, b""), reason
    kind, size = found.format[:1].upper().encode(), (found.height, found.width)
    return ANSWER.pack(kind, len(part), *size, *astuple(found.values), bytes.fromhex(found.key)), part


if __name__ == "__main__":
    serve(socket.socket(fileno=0), Limits(**json.loads(sys.argv[1])))

"""Files of boxes: AVIF, HEIC and JP2, whose boxes stand in boxes."""

import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace

from checks.fuzz_structures import jpeg2000
from checks.fuzz_structures.parts import REPEATS, Part, Parts, edit, find, insert, put

# Boxes that hold boxes, and the bytes before these.
WITHIN = {b"meta": 4, b"iprp": 0, b"ipco": 0, b"moov": 0, b"trak": 0, b"mdia": 0, b"minf": 0, b"stbl": 0, b"dinf": 0}
WITHIN |= {b"jp2h": 0, b"res ": 0, b"asoc": 0, b"iinf": 6}
SIDES = 0, 1, 12, 33, 500, 9999, 13_200, 65_536, 2**31 - 1, 2**31, 2**32 - 1
SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n"


def split(content: bytes) -> list[Part]:
    """Returns the boxes of some bytes."""
    parts, at = [], 0
    while at + 8 <= len(content):
        length, start = int.from_bytes(content[at : at + 4], "big"), at + 8
        if length == 1:
            length, start = int.from_bytes(content[at + 8 : at + 16], "big"), at + 16
        end = len(content) if length == 0 else at + length
        if not start <= end <= len(content):
            break
        parts.append(Part(content[at + 4 : at + 8], content[start:end]))
        at = end
    return [*parts, Part(b"", content[at:])] if content[at:] else parts


def join(parts: Sequence[Part]) -> bytes:
    """Returns the boxes after each other."""
    return b"".join(box(part.kind, part.data) if part.kind else part.data for part in parts)


def box(kind: bytes, data: bytes) -> bytes:
    """Returns a box with its length."""
    return struct.pack(">I", len(data) + 8) + kind + data


def _within(parts: list[Part], rng: random.Random) -> None:
    """Changes what stands in a box of boxes, at any depth, and the lengths of all boxes around it."""
    places = [index for index, part in enumerate(parts) if part.kind in WITHIN]
    if not places:
        return
    at = rng.choice(places)
    data, skipped = parts[at].data, WITHIN[parts[at].kind]
    changed = STRUCTURE.change(data[skipped:], [data[skipped:]], rng)
    parts[at] = replace(parts[at], data=data[:skipped] + changed)


def _nest(parts: list[Part], rng: random.Random) -> None:
    """A box within boxes of its own kind, hundreds deep."""
    at = rng.randrange(len(parts))
    part, before = parts[at], bytes(WITHIN.get(parts[at].kind, 0))
    for _ in range(rng.choice((1, 9, 300)) if len(part.data) < 1 << 16 else 1):
        part = replace(part, data=before + box(part.kind, part.data))
    parts[at] = part


def _length(parts: list[Part], rng: random.Random) -> None:
    """A box whose length is to the end, of 64 bits, or more than there is."""
    at = rng.randrange(len(parts))
    kind, data = parts[at].kind, parts[at].data
    lengths = (
        struct.pack(">I", 0) + kind,
        struct.pack(">I", 1) + kind + struct.pack(">Q", rng.choice((len(data) + 16, 2**63, 0))),
        struct.pack(">I", rng.choice((2, 7, len(data) + 9, 2**32 - 1))) + kind,
    )
    parts[at] = Part(b"", rng.choice(lengths) + data)


def _sizes(parts: list[Part], rng: random.Random) -> None:
    """What a box says of the image's size, colours or palette."""
    offsets = {
        b"ispe": (4, 8),
        b"ihdr": (0, 4),
        b"tkhd": (76, 80),
        b"iloc": (6, 8, 14, 18),
        b"pixi": (4,),
        b"av1C": (0,),
    }
    kinds = [part.kind for part in parts if part.kind in offsets]
    if kinds:
        kind = rng.choice(kinds)
        edit(parts, [kind], lambda data: put(data, rng.choice(offsets[kind]), ">I", rng.choice(SIDES)))
    else:
        palette = struct.pack(">HB", rng.choice((0, 1, 256, 1024)), rng.choice((1, 3, 255))) + bytes(900)
        more = (Part(b"pclr", palette), Part(b"cmap", bytes(12)), Part(b"cdef", bytes([0, 9]) + bytes(54)))
        insert(parts, rng.choice(more), rng, rng.choice(REPEATS))


def _code(parts: list[Part], rng: random.Random) -> None:
    """The JPEG 2000 within."""
    edit(parts, [b"jp2c"], lambda data: jpeg2000.STRUCTURE.change(data, [data], rng))


def _grid(parts: list[Part], rng: random.Random) -> None:
    """Another type of the images' items, as of an image that is put together of many."""
    edit(parts, [b"infe"], lambda data: put(data, 8, "4s", rng.choice((b"grid", b"iovl", b"iden", b"av01"))))  # type: ignore[arg-type]


CHANGES: tuple[Callable[[list[Part], random.Random], None], ...] = (
    _within, _within, _within, _nest, _length, _sizes, _sizes, _code, _code, _code, _grid,
)  # fmt: skip
STRUCTURE = Parts(lambda content: content[4:8] in (b"ftyp", b"jP  "), split, join, CHANGES)


def jp2(code: bytes) -> bytes:
    """Returns a JPEG 2000 file around a codestream, whose head says that it is 16 x 16 px."""
    head = box(b"ihdr", struct.pack(">IIHBBBB", 16, 16, 1, 7, 7, 0, 0)) + box(b"colr", b"\1\0\0\0\0\0\x11")
    kind = box(b"ftyp", b"jp2 \0\0\0\0jp2 ")
    return SIGNATURE + kind + box(b"jp2h", head) + box(b"jp2c", code)


def resized(content: bytes, width: int, height: int) -> bytes:
    """Returns an AVIF whose head says another size than what is coded has."""
    parts = split(content)
    if (at := find(parts, b"meta", b"iprp", b"ipco")) is not None:
        skipped = WITHIN[parts[at].kind]
        data = parts[at].data
        parts[at] = replace(parts[at], data=data[:skipped] + resized(data[skipped:], width, height))
    edit(parts, [b"ispe"], lambda data: put(data, 4, ">II", width, height))
    return join(parts)

"""PNG's chunks and RIFF's, which WebP is."""

import functools
import random
import struct
import zlib
from collections.abc import Sequence
from dataclasses import replace

from checks.fuzz_structures.parts import REPEATS, Part, Parts, edit, find, insert, put

PNG = b"\x89PNG\r\n\x1a\n"
SIDES = 0, 1, 12, 33, 500, 9999, 13_200, 65_536, 2**31 - 1, 2**31, 2**32 - 1


def split_png(content: bytes) -> list[Part]:
    """Returns its chunks, checksums left out."""
    parts, at = [], len(PNG)
    while at + 12 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        if at + 12 + length > len(content):
            break
        parts.append(Part(content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    return [*parts, Part(b"", content[at:])] if content[at:] else parts


def chunk(kind: bytes, data: bytes) -> bytes:
    """Returns a PNG's chunk with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@functools.cache
def packed_zeros(size: int) -> bytes:
    """Returns so many zero bytes, packed to a thousandth."""
    return zlib.compress(bytes(size))


def join_png(parts: Sequence[Part]) -> bytes:
    """Returns the file, with right checksums."""
    return PNG + b"".join(chunk(part.kind, part.data) if part.kind else part.data for part in parts)


def _head(parts: list[Part], rng: random.Random) -> None:
    """Width, height, depth, colours or interlacing."""
    changes = (
        (0, ">I", rng.choice(SIDES)),
        (4, ">I", rng.choice(SIDES)),
        (8, "B", rng.choice((1, 2, 4, 8, 16, 3))),
        (9, "B", rng.choice((0, 2, 3, 4, 6, 5))),
        (12, "B", 1),
    )
    place, form, number = rng.choice(changes)
    edit(parts, [b"IHDR"], lambda data: put(data, place, form, number))


def _pixels(parts: list[Part], rng: random.Random) -> None:
    """More or fewer pixels than the head says."""
    edit(parts, [b"IDAT"], lambda data: packed_zeros(rng.choice((0, 1, 400, 1 << 16, 1 << 26))))


def _pieces(parts: list[Part], rng: random.Random) -> None:
    """The pixels in many chunks, empty ones among them."""
    if (at := find(parts, b"IDAT")) is not None:
        data, size = parts[at].data, rng.choice((1, 7))
        pieces = [Part(b"IDAT", data[start : start + size]) for start in range(0, len(data), size)]
        parts[at : at + 1] = [*pieces, *[Part(b"IDAT", b"")] * rng.choice(REPEATS)]


def _text(parts: list[Part], rng: random.Random) -> None:
    packed = packed_zeros(rng.choice((9, 1 << 20, 1 << 26)))
    some = (
        Part(b"tEXt", b"Comment\0text"),
        Part(b"zTXt", b"Comment\0\0" + packed),
        Part(b"iTXt", b"Comment\0\1\0en\0\0" + packed),
        Part(b"iCCP", b"icc\0\0" + packed),
        Part(b"eXIf", b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"),
        Part(b"tRNS", rng.randbytes(rng.choice((0, 1, 2, 6, 256, 300)))),
        Part(b"PLTE", rng.randbytes(rng.choice((0, 3, 768, 771)))),
        Part(b"gAMA", rng.randbytes(4)),
    )
    insert(parts, rng.choice(some), rng, rng.choice(REPEATS))


def _frames(parts: list[Part], rng: random.Random) -> None:
    """An animation (APNG), whose frames need not fit the image."""
    count, width, height = rng.choice((0, 1, 9, 2**31 - 1)), rng.choice(SIDES), rng.choice(SIDES)
    control = struct.pack(">IIIIIHHBB", 0, width, height, rng.choice((0, 5)), 0, 1, 10, rng.randrange(3), 0)
    at = find(parts, b"IDAT") or 0
    parts[at:at] = [Part(b"acTL", struct.pack(">II", count, 0)), Part(b"fcTL", control)]
    parts[-1:-1] = [Part(b"fcTL", put(control, 0, ">I", 1)), Part(b"fdAT", b"\0\0\0\2")] * rng.choice(REPEATS)


def png(side: int, colours: int = 6, depth: int = 8) -> bytes:
    """Returns a square of black pixels, 8 bits of RGB and alpha unless it is said otherwise."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colours]
    packer, row = zlib.compressobj(), bytes(1 + (side * channels * depth + 7) // 8)
    data = b"".join([*(packer.compress(row) for _ in range(side)), packer.flush()])
    palette = [Part(b"PLTE", bytes(range(12)))] if colours == 3 else []
    head = struct.pack(">IIBBBBB", side, side, depth, colours, 0, 0, 0)
    return join_png([Part(b"IHDR", head), *palette, Part(b"IDAT", data), Part(b"IEND", b"")])


def with_chunk(content: bytes, part: Part, times: int = 1) -> bytes:
    """Returns a PNG with a chunk after its head."""
    parts = split_png(content)
    return join_png([parts[0], *[part] * times, *parts[1:]])


def split_riff(content: bytes) -> list[Part]:
    """Returns the chunks of a RIFF file after its head."""
    parts, at = [], 12
    while at + 8 <= len(content):
        length = int.from_bytes(content[at + 4 : at + 8], "little")
        parts.append(Part(content[at : at + 4], content[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    return [*parts, Part(b"", content[at:])] if content[at:] else parts


def join_riff(parts: Sequence[Part]) -> bytes:
    """Returns a WebP."""
    body = b"".join(
        part.kind + struct.pack("<I", len(part.data)) + part.data + bytes(len(part.data) % 2)
        if part.kind
        else part.data
        for part in parts
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _canvas(parts: list[Part], rng: random.Random) -> None:
    """An extended head, whose size need not be that of the image."""
    width, height = rng.choice((1, 12, 5000, 16_384, 1 << 24)), rng.choice((1, 9, 5000, 16_384, 1 << 24))
    data = bytes([rng.choice((0, 2, 0x10, 0x3E)), 0, 0, 0])
    data += (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    if find(parts, b"VP8X") is None:
        parts[0:0] = [Part(b"VP8X", data)]
    else:
        edit(parts, [b"VP8X"], lambda _: data)


def _animation(parts: list[Part], rng: random.Random) -> None:
    """A frame many times, of another place or size."""
    if (at := find(parts, b"ANMF")) is not None:
        place = rng.choice((0, 3, 6, 9))
        frame = replace(parts[at], data=put(parts[at].data, place, "<I", rng.choice(SIDES) & 0xFFFFFFFF))
        parts[at:at] = [frame] * min(rng.choice(REPEATS), (1 << 20) // (len(frame.data) + 8))


def _bits(parts: list[Part], rng: random.Random) -> None:
    """Sizes in the head of what is coded."""
    edit(parts, [b"VP8 "], lambda data: put(data, rng.choice((6, 8)), "<H", rng.randrange(1 << 16)))
    edit(parts, [b"VP8L"], lambda data: put(data, 1, "<I", rng.randrange(1 << 32)))


PNG_STRUCTURE = Parts(
    lambda content: content.startswith(PNG), split_png, join_png, (_head, _head, _pixels, _pieces, _text, _frames)
)
WEBP_STRUCTURE = Parts(
    lambda content: content[:4] == b"RIFF" and content[8:12] == b"WEBP",
    split_riff,
    join_riff,
    (_canvas, _animation, _bits),
)

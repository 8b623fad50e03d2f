"""JPEG: its segments, scans, sizes, and metadata in many segments."""

import random
import struct
from collections.abc import Sequence

from checks.fuzz_structures.parts import REPEATS, Part, Parts, edit, find, put

START, END, SCAN, TABLES = b"\xff\xd8", b"\xff\xd9", b"\xff\xda", b"\xff\xc4"
ALONE = {bytes([0xFF, code]) for code in (*range(0xD0, 0xDA), 0x01)}  # markers without a length
FRAMES = [bytes([0xFF, code]) for code in (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC))]
SIDES = 0, 1, 7, 9, 33, 500, 9999, 65_500, 65_535
METADATA = (
    (b"\xff\xe1", b"Exif\0\0"),
    (b"\xff\xe1", b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta>"),
    (b"\xff\xe2", b"ICC_PROFILE\0\1\1"),
    (b"\xff\xe2", b"MPF\0"),
    (b"\xff\xed", b"Photoshop 3.0\0008BIM\4\4\0\0\0\0\0\4abcd"),
    (b"\xff\xee", b"Adobe\0d\0\0\0\0\2"),
    (b"\xff\xe0", b"JFIF\0\1\1\0\0\1\0\1\0\0"),
    (b"\xff\xfe", b"comment"),
)


def split(content: bytes) -> list[Part]:
    """Returns markers with their data; what is coded stands after its scan's header as a part without a kind."""
    parts, at = [], 0
    while at + 2 <= len(content) and content[at] == 0xFF:
        marker = content[at : at + 2]
        at += 2
        data = b""
        if marker not in ALONE:
            length = int.from_bytes(content[at : at + 2], "big")
            data, at = content[at + 2 : at + length], at + max(length, 2)
        parts.append(Part(marker, data))
        if marker == SCAN:
            end = _coded_end(content, at)
            parts.append(Part(b"", content[at:end]))
            at = end
        if marker == END:
            break
    return [*parts, Part(b"", content[at:])] if content[at:] else parts


def _coded_end(content: bytes, at: int) -> int:
    while (at := content.find(b"\xff", at)) >= 0:
        if content[at + 1 : at + 2] and content[at + 1] not in (0, *range(0xD0, 0xD8)):
            return at
        at += 2
    return len(content)


def join(parts: Sequence[Part]) -> bytes:
    """Returns the file."""
    return b"".join(part.data if not part.kind else segment(part.kind, part.data) for part in parts)


def segment(marker: bytes, data: bytes) -> bytes:
    """Returns a marker with its length and data, which is cut where it is longer than a length can say."""
    return marker if marker in ALONE else marker + struct.pack(">H", min(len(data), 65_533) + 2) + data[:65_533]


def _size(parts: list[Part], rng: random.Random) -> None:
    edit(parts, FRAMES, lambda data: put(data, 1, ">HH", rng.choice(SIDES), rng.choice(SIDES)))


def _frame(parts: list[Part], rng: random.Random) -> None:
    """Another process (progressive, lossless, arithmetic), depth, number of components or sampling."""
    if (at := find(parts, *FRAMES)) is None:
        return
    data = parts[at].data
    changed = (
        Part(rng.choice(FRAMES), data),
        Part(parts[at].kind, put(data, 0, "B", rng.choice((2, 8, 12, 16)))),
        Part(parts[at].kind, put(data, 5, "B", rng.choice((0, 1, 2, 3, 4, 5, 255)))),
        Part(parts[at].kind, put(data, 7 + 3 * rng.randrange(3), "B", rng.choice((0x11, 0x22, 0x14, 0x44, 0x00)))),
    )
    parts[at] = rng.choice(changed)


def _scans(parts: list[Part], rng: random.Random) -> None:
    """The same scan thousands of times."""
    if (at := find(parts, SCAN)) is not None:
        scan = parts[at : at + 2]
        size = sum(len(part.data) + 4 for part in scan)
        parts[at:at] = scan * min(rng.choice(REPEATS), (1 << 20) // size)


def _spectrum(parts: list[Part], rng: random.Random) -> None:
    """A scan's range of coefficients and bits of precision."""
    edit(parts, [SCAN], lambda data: data[:-3] + bytes(rng.choice((0, 1, 5, 63, 64, 0x10, 0x21)) for _ in range(3)))


def _metadata(parts: list[Part], rng: random.Random) -> None:
    kind, start = rng.choice(METADATA)
    at = rng.randint(1, max(len(parts), 1))
    parts[at:at] = [Part(kind, start + rng.randbytes(rng.choice((0, 1, 1, 30))))] * rng.choice(REPEATS)


def _restarts(parts: list[Part], rng: random.Random) -> None:
    parts[1:1] = [Part(b"\xff\xdd", struct.pack(">H", rng.choice((0, 1, 2, 65_535))))]


def progressive(side: int, scans: int) -> bytes:
    """Returns a grey image whose scans are in one bit a block or less, and so many of them."""
    blocks = (-(-side // 8)) ** 2
    head = struct.pack(">BHHB", 8, side, side, 1) + b"\1\x11\0"
    # Two codes: "0" for a block without a difference, and "0" for the end of a run of 2 ** 14 blocks and 14 bits more.
    tables = [
        Part(TABLES, kind + bytes([1] + [0] * 15) + value) for kind, value in ((b"\0", b"\0"), (b"\x10", b"\xe0"))
    ]
    runs, bits = -(-blocks // ((1 << 15) - 1)), 15
    coded = int("0" + "1" * 14, 2)
    number = sum(coded << bits * run for run in range(runs))
    padding = -runs * bits % 8
    data = ((number << padding) | (1 << padding) - 1).to_bytes((runs * bits + padding) // 8, "big")
    first = [Part(SCAN, b"\1\1\0\0\0\0"), Part(b"", bytes(-(-blocks // 8)))]
    more = [Part(SCAN, b"\1\1\0\1\x3f\0"), Part(b"", data.replace(b"\xff", b"\xff\0"))]
    frame = [Part(b"\xff\xdb", bytes(1) + bytes([16] * 64)), Part(b"\xff\xc2", head), *tables]
    return join([Part(START, b""), *frame, *first, *(more * scans), Part(END, b"")])


def with_metadata(content: bytes, kind: bytes, data: bytes, times: int) -> bytes:
    """Returns a JPEG with so many segments of metadata after its start."""
    return content[:2] + segment(kind, data) * times + content[2:]


STRUCTURE = Parts(
    lambda content: content.startswith(b"\xff\xd8\xff"),
    split,
    join,
    (_size, _frame, _scans, _spectrum, _metadata, _metadata, _restarts),
)

"""The formats of images: how each is split into parts, and what is known of their fields."""

import functools
import random
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from checks.fuzz_layouts import Directory, Gif, Ppm, retype_tag, set_tag
from checks.fuzz_mutations import MAX_BYTES
from checks.fuzz_parts import REPEATS, Field, Head, Layout, Part, Tagged, change_any, insert

SIDES = 0, 1, 12, 33, 500, 9999, 13_200, 65_536, 2**31 - 1, 2**31, 2**32 - 1
SHORT_SIDES = 0, 1, 7, 12, 33, 500, 9999, 13_200, 65_500, 65_535
DEPTHS = 1, 8, 300  # of parts within themselves


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
      begins: what stands at an offset; one of several is enough.
      layout: splits and joins it.
      fields: what is set to other values.
      extra: parts that are inserted, once or very often.
      within: types of parts that hold another file, or more such parts, after so many bytes.
      changes: other ones.
    """

    begins: Sequence[tuple[int, bytes]]
    layout: Layout
    fields: Sequence[Field] = ()
    extra: Sequence[Part | Callable[[], Part]] = ()
    within: Mapping[bytes, int] = field(default_factory=dict)
    changes: Sequence[Callable[[list[Part], random.Random], None]] = ()

    def starts(self, content: bytes) -> bool:
        """Whether some bytes begin as this kind does."""
        return any(content.startswith(begin, offset) for offset, begin in self.begins)

    def change(self, content: bytes, seeds: Sequence[bytes], rng: random.Random) -> bytes:
        """Returns the file after one change that leaves its structure right."""
        parts = self.layout.split(content)
        holders = [index for index, part in enumerate(parts) if part.kind in self.within]
        ways: list[Callable[[], None]] = [lambda: change_any(parts, rng)] * 3
        ways += [lambda: rng.choice(self.fields).change(parts, rng)] * (5 if self.fields else 0)
        ways += [lambda: rng.choice(self.changes)(parts, rng)] * (5 if self.changes else 0)
        ways += [lambda: self._insert(parts, rng)] * (2 if self.extra else 0)
        ways += [lambda: self._change_within(parts, rng.choice(holders), rng)] * (5 if holders else 0)
        ways += [lambda: self._take_from(rng.choice(seeds), parts, rng)]
        if parts:
            rng.choice(ways)()
        return self.layout.join(parts)

    def _insert(self, parts: list[Part], rng: random.Random) -> None:
        part = rng.choice(self.extra)
        insert(parts, [part() if callable(part) else part], rng.choice(REPEATS), rng)

    def _take_from(self, other: bytes, parts: list[Part], rng: random.Random) -> None:
        if self.starts(other):
            insert(parts, [rng.choice(self.layout.split(other))], 1, rng)

    def _change_within(self, parts: list[Part], at: int, rng: random.Random) -> None:
        """Changes what a part holds and all lengths around it, or puts the part within itself again and again."""
        kind, data = parts[at].kind, parts[at].data
        skipped = self.within[kind]
        if rng.random() < 0.1 and len(data) < MAX_BYTES // DEPTHS[-1]:
            for _ in range(rng.choice(DEPTHS)):
                data = data[:skipped] + self.layout.join([Part(kind, data)])
        else:
            inner = FORMATS.get(kind_of(data[skipped:]), self)
            data = data[:skipped] + inner.change(data[skipped:], [data[skipped:]], rng)
        parts[at] = Part(kind, data)


@functools.cache
def zeros(size: int) -> bytes:
    """Returns so many zero bytes, packed to a thousandth."""
    return zlib.compress(bytes(size))


def _packed(kind: bytes, start: bytes, size: int) -> Callable[[], Part]:
    return lambda: Part(kind, start + zeros(size))


def _markers(*codes: int) -> tuple[bytes, ...]:
    return tuple(bytes((0xFF, code)) for code in codes)


FRAMES = _markers(*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC))
(SIZE, CODING, QUANTA, TILE), SCAN = _markers(0x51, 0x52, 0x5C, 0x90), b"\xff\xda"
BOXES = dict.fromkeys((b"ipco", b"iprp", b"moov", b"trak", b"mdia", b"minf", b"stbl", b"dinf", b"jp2h", b"res "), 0)
LARGE_JP2 = [(width, height, 0, 0, width, height) for width in SIDES[1:] for height in (1, 2000, 9999, 65_536)]
FORMATS = {
    "jpeg": Format(
        [(0, b"\xff\xd8\xff")],
        Tagged(">2sH", counted=2, alone=frozenset(_markers(0x01, *range(0xD0, 0xD9))), coded=SCAN, last=(b"\xff\xd9",)),
        (
            Field(FRAMES, 1, ">HH", [(height, width) for height in SHORT_SIDES for width in SHORT_SIDES]),
            Field(FRAMES, 0, "B", (2, 8, 12, 16)),
            Field(FRAMES, 5, "B", (0, 1, 2, 3, 4, 5, 255)),
            *(Field(FRAMES, place, "B", (0x11, 0x22, 0x14, 0x44, 0)) for place in (7, 10, 13)),
            *(Field((SCAN,), place, "3B", ((0, 63, 0), (1, 5, 0x21), (64, 0, 0x10), (0, 0, 1))) for place in (3, 5, 7)),
        ),
        (
            *(Part(b"\xff\xe1", start + b"q") for start in (b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta>")),
            *(Part(b"\xff\xe2", start) for start in (b"ICC_PROFILE\0\1\1q", b"MPF\0")),
            Part(b"\xff\xed", b"Photoshop 3.0\0008BIM\4\4\0\0\0\0\0\4abcd"),
            Part(b"\xff\xee", b"Adobe\0d\0\0\0\0\2"),
            Part(b"\xff\xe0", b"JFIF\0\1\1\0\0\1\0\1\0\0"),
            Part(b"\xff\xfe", b"comment"),
            *(Part(b"\xff\xdd", struct.pack(">H", interval)) for interval in (0, 1, 65_535)),
            *(Part(frame, b"\x08\0\x09\0\x0c\1\1\x11\0") for frame in FRAMES),
        ),
        {b"\xff\xe1": 6, b"\xff\xe2": 4},
    ),
    "png": Format(
        [(0, b"\x89PNG\r\n\x1a\n")],
        Tagged(">I4s", before=8, checksum=True),
        (
            Field((b"IHDR",), 0, ">I", SIDES),
            Field((b"IHDR",), 4, ">I", SIDES),
            Field((b"IHDR",), 8, "B", (1, 2, 4, 8, 16, 3)),
            Field((b"IHDR",), 9, "B", (0, 2, 3, 4, 6, 5)),
            Field((b"IHDR",), 12, "B", (1,)),
            Field((b"IDAT",), 0, "", [functools.partial(zeros, size) for size in (0, 1, 400, 1 << 16, 1 << 26)]),
            Field((b"acTL",), 0, ">I", (0, 1, 9, 2**31 - 1)),
            *(Field((b"fcTL",), place, ">I", SIDES) for place in (0, 4, 8, 12, 16)),
            Field((b"fcTL",), 24, "B", (0, 1, 2, 3)),
        ),
        (
            Part(b"tEXt", b"Comment\0text"),
            *(_packed(b"zTXt", b"Comment\0\0", size) for size in (9, 1 << 20, 1 << 26)),
            *(_packed(b"iTXt", b"Comment\0\1\0en\0\0", size) for size in (9, 1 << 20, 1 << 26)),
            *(_packed(b"iCCP", b"icc\0\0", size) for size in (9, 1 << 20, 1 << 26)),
            Part(b"eXIf", b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"),
            *(Part(kind, bytes(range(size))) for kind in (b"tRNS", b"PLTE", b"gAMA") for size in (0, 1, 2, 3, 6, 256)),
            Part(b"PLTE", bytes(771)),
        ),
        {b"eXIf": 0},
    ),
    "webp": Format(
        [(8, b"WEBP")],
        Tagged("<4sI", before=12, even=True, total=True),
        (
            Field((b"VP8X",), 0, "B", (0, 2, 0x10, 0x3E)),
            Field((b"VP8X",), 4, "<HB", ((0, 0), (11, 0), (4999, 0), (0x3FFF, 0), (0xFFFF, 255))),
            Field((b"VP8X",), 7, "<HB", ((0, 0), (8, 0), (4999, 0), (0x3FFF, 0), (0xFFFF, 255))),
            *(Field((b"ANMF",), place, "<I", SIDES) for place in (0, 3, 6, 9)),
            *(Field((b"VP8 ",), place, "<H", SHORT_SIDES) for place in (6, 8)),
            Field((b"VP8L",), 1, "<I", [(side - 1) * (1 | 1 << 14) for side in (1, 12, 500, 9999, 16_384)]),
        ),
        [Part(b"VP8X", struct.pack("<IHBHB", flags, side, 0, 8, 0)) for flags in (0, 2) for side in (11, 9999)],
    ),
    "gif": Format(
        [(0, b"GIF8")],
        Gif(),
        (
            *(Field((b"screen",), place, "<H", SHORT_SIDES) for place in (6, 8)),
            *(Field((b",",), place, "<H", SHORT_SIDES) for place in (0, 2, 4, 6)),
        ),
        [
            Part(b"!", b"\xfe\5hello\0"), Part(b"!", b"\xfe" + b"\1x" * 5000 + b"\0"), Part(b"!", b"\xf9\4\5\0\0\0\0"),
            Part(b"!", b"\xff\x0bNETSCAPE2.0\3\1\0\0\0"),
        ],
    ),
    "tiff": Format([(0, b"II*\0"), (0, b"MM\0*")], Directory(), changes=(set_tag, set_tag, set_tag, retype_tag)),
    "j2k": Format(
        [(0, b"\xff\x4f\xff\x51")],
        Tagged(">2sH", counted=2, alone=frozenset(_markers(0x4F)), last=_markers(0x93, 0xD9)),
        (
            Field((SIZE,), 2, ">IIIIII", LARGE_JP2),
            *(Field((SIZE,), 2 + 4 * number, ">I", SIDES) for number in range(8)),
            *(Field((SIZE,), place, "B", (0, 1, 2, 7, 15, 37, 255)) for place in (36, 37, 38)),
            Field((SIZE,), 18, ">II", [(side, side) for side in (1, 2, 4, 16)]),
            Field((SIZE,), 34, "", [struct.pack(">H", count) + bytes([7, step, step]) * count
                                    for count in (1, 2, 3, 4, 5, 100, 10_000) for step in (1, 2, 255)]),
            Field((CODING,), 1, "B", range(6)),  # order
            Field((CODING,), 2, ">H", (1, 2, 1000, 65_535)),  # layers
            Field((CODING,), 5, "B", (0, 1, 4, 6, 32, 33)),  # levels
            *(Field((CODING,), place, "B", range(10)) for place in (4, 6, 7, 8, 9)),
            *[Field((CODING,), 10, "6B", [(size,) * 6 for size in (0, 0x11, 0x22, 0x21, 0xFF)])] * 2,  # precincts
            Field((TILE,), 0, ">H", (0, 1, 65_534, 65_535)),
            Field((TILE,), 2, ">I", (0, 12, 14, 2**31, 2**32 - 1)),
            Field((TILE,), 6, "BB", ((0, 0), (1, 1), (254, 255), (255, 0))),
        ),
        (
            Part(b"\xff\x53", b"\0\0\5\4\4\0\0"), Part(b"\xff\x5d", b"\0" + bytes(17)), Part(b"\xff\x5e", b"\0\0\x25"),
            *(Part(b"\xff\x5f", b"\0\0\0\1\6\1\0" * count) for count in (1, 32, 8000)), Part(b"\xff\x64", b"\0\1text"),
            Part(b"\xff\x55", b"\0\x40" + bytes(60_000)), Part(b"\xff\x57", bytes(3)), Part(b"\xff\x60", bytes(60_000)),
            *(Part(kind, bytes(12)) for kind in _markers(0x74, 0x75, 0x77)),
        ),
    ),
    "boxes": Format(
        [(4, b"ftyp"), (4, b"jP  ")],
        Tagged(">I4s", counted=8),
        (
            Field((b"ispe",), 4, ">I", SIDES), Field((b"ispe",), 8, ">I", SIDES), Field((b"ihdr",), 0, ">I", SIDES),
            Field((b"ihdr",), 4, ">I", SIDES), Field((b"pixi", b"av1C"), 0, ">I", SIDES),
            *(Field((b"iloc",), place, ">I", SIDES) for place in (6, 8, 14, 18)),
            Field((b"infe",), 8, "4s", (b"grid", b"iovl", b"iden", b"av01")),
        ),
        (
            *(Part(b"pclr", struct.pack(">HB", count, 3) + bytes(900)) for count in (0, 1, 256, 1024)),
            Part(b"cmap", bytes(12)), Part(b"cdef", bytes([0, 9]) + bytes(54)),
            # A length that is to the end, of 64 bits, or more than there is.
            *(Part(b"", struct.pack(">I", length) + b"free" + bytes(8)) for length in (0, 1, 2, 7, 17, 2**32 - 1)),
            Part(b"", struct.pack(">I4sQ", 1, b"free", 2**63)),
        ),
        {b"meta": 4, b"iinf": 6, b"jp2c": 0, **BOXES},
    ),
    "ico": Format(
        [(0, b"\0\0\1\0")],
        Head(22),
        (
            Field((b"head",), 2, "<H", (1, 2)), Field((b"head",), 4, "<H", (0, 1, 2, 100, 65_535)),
            Field((b"head",), 6, "<H", (0, 0x0101, 0xFFFF)), Field((b"head",), 8, "<H", (0, 2, 256)),
            Field((b"head",), 12, "<H", (0, 1, 4, 8, 24, 32)), Field((b"head",), 14, "<I", SIDES),
            Field((b"head",), 18, "<I", (0, 6, 22, 2**32 - 1)),
        ),
        within={b"rest": 0},
    ),
    "bmp": Format(
        [(0, b"BM")],
        Head(54),
        (
            Field((b"head",), 10, "<I", (0, 14, 54, 2**31, 2**32 - 1)), Field((b"head",), 18, "<I", SIDES),
            Field((b"head",), 14, "<I", (12, 16, 40, 52, 56, 64, 108, 124, 0, 2**32 - 1)),
            Field((b"head",), 22, "<I", SIDES), Field((b"head",), 28, "<H", (0, 1, 2, 4, 8, 16, 24, 32, 64)),
            Field((b"head",), 30, "<I", range(7)), Field((b"head",), 46, "<I", (0, 1, 256, 2**31, 2**32 - 1)),
        ),
    ),
    "tga": Format(
        [(0, b"\0\0\2\0")],
        Head(18),
        (
            Field((b"head",), 0, "B", (0, 255)), Field((b"head",), 1, "B", (0, 1)),
            Field((b"head",), 2, "B", (1, 2, 3, 9, 10, 11)), Field((b"head",), 7, "B", (16, 24, 32)),
            *(Field((b"head",), place, "<H", SHORT_SIDES) for place in (5, 12, 14)),
            Field((b"head",), 16, "B", (1, 8, 16, 24, 32)), Field((b"head",), 17, "B", (0, 8, 0x20, 0x30)),
        ),
    ),
    "ppm": Format(
        [(0, b"P%d" % kind) for kind in range(1, 8)] + [(0, b"Pf")],
        Ppm(),
        (
            Field((b"magic",), 0, "", (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"P7", b"Pf")),
            Field((b"width", b"height"), 0, "", (b"1", b"9", b"13000", b"9" * 11, b"0", b"-1", b"9999999")),
            Field((b"depth",), 0, "", (b"1", b"255", b"65535", b"0", b"-9")),
        ),
        [Part(b"comment", b"#" + b"c" * size) for size in (0, 9, 70_000)] + [Part(b"comment", b"\n" * 70_000)],
    ),
}  # fmt: skip


def kind_of(content: bytes) -> str:
    """Returns the name of the format that some bytes begin as, or "other"."""
    return next((name for name, one in FORMATS.items() if one.starts(content)), "other")

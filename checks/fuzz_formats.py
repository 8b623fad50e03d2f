"""The formats of images: how each is split into parts, and what is known of their fields."""

import random
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as attribute

from checks.fuzz_layouts import Directory, Gif, Head, Ppm, Tagged, retype_tag, set_tag
from checks.fuzz_mutations import MAX_BYTES, REPEATS, Change, Part, change_any, ends, field, insert

SIDES = 0, 1, 12, 33, 500, 9999, 13_200, 65_536, 2**31 - 1, 2**31, 2**32 - 1
SHORT_SIDES = 0, 1, 7, 12, 33, 500, 9999, 13_200, 65_500, 65_535
PLACES = 0, 6, 12, 14, 16, 22, 40, 52, 54, 56, 64, 108, 124, 256, 2**31, 2**32 - 1
BITS = *range(12), 12, 16, 24, 32, 64, 255  # and kinds, flags, orders
COUNTS = *BITS, 100, 256, 0x0101, 1000, 65_535
DEPTHS = 1, 8, 300  # of parts within themselves


@dataclass(frozen=True)
class Format:
    """A kind of file."""

    begins: Sequence[tuple[int, bytes]]  # what stands at an offset; one of several is enough
    layout: Head | Tagged
    fields: Sequence[Change] = ()  # change what its parts say
    extra: Sequence[Part] = ()  # are inserted, once or very often
    within: Mapping[bytes, int] = attribute(default_factory=dict)  # parts with another file after so many bytes

    def starts(self, content: bytes) -> bool:
        """Whether some bytes begin as this kind does."""
        return any(content.startswith(begin, offset) for offset, begin in self.begins)

    def change(self, content: bytes, seeds: Sequence[bytes], rng: random.Random) -> bytes:
        """Returns the file after one change that leaves its structure right."""
        parts, other = self.layout.split(content), rng.choice(seeds)
        holders = [index for index, part in enumerate(parts) if part.kind in self.within]
        ways: list[Callable[[], None]] = [lambda: change_any(parts, rng)] * 3
        ways += [lambda: rng.choice(self.fields)(parts, rng)] * (5 if self.fields else 0)
        ways += [lambda: insert(parts, [rng.choice(self.extra)], rng, rng.choice(REPEATS))] * (2 if self.extra else 0)
        ways += [lambda: self._change_within(parts, rng.choice(holders), rng)] * (5 if holders else 0)
        ways += [lambda: insert(parts, [rng.choice(self.layout.split(other))], rng)] * self.starts(other)
        if parts:
            rng.choice(ways)()
        return self.layout.join(parts)

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


def _markers(*codes: int) -> tuple[bytes, ...]:
    return tuple(bytes((0xFF, code)) for code in codes)


PACKED = {size: zlib.compress(bytes(size)) for size in (0, 1, 9, 400, 1 << 16, 1 << 20, 1 << 26)}
FRAMES = _markers(*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC))
(SIZE, CODING, TILE), SCAN = _markers(0x51, 0x52, 0x90), b"\xff\xda"
HEAD, IHDR, FCTL, VP8X = [b"head"], [b"IHDR"], [b"fcTL"], [b"VP8X"]
BOXES = dict.fromkeys((b"ipco", b"iprp", b"moov", b"trak", b"mdia", b"minf", b"stbl", b"dinf", b"jp2h", b"res "), 0)
LARGE_JP2 = [(width, height, 0, 0, width, height) for width in SIDES[1:] for height in (1, 2000, 9999, 65_536)]
COMPONENTS = [struct.pack(">H", count) + bytes([7, step, step]) * count
              for count in (1, 2, 3, 4, 5, 100, 10_000) for step in (1, 2, 255)]  # fmt: skip
FORMATS = {
    "jpeg": Format(
        [(0, b"\xff\xd8\xff")],
        Tagged(">2sH", counted=2, alone=frozenset(_markers(0x01, *range(0xD0, 0xD9))), coded=SCAN, last=(b"\xff\xd9",)),
        (
            field(FRAMES, ">HH", [1], [(height, width) for height in SHORT_SIDES for width in SHORT_SIDES]),
            field(FRAMES, "B", (0, 5), BITS),
            *[field(FRAMES, "B", (7, 10, 13), (0x11, 0x22, 0x14, 0x44, 0))] * 2,
            field((SCAN,), "3B", (3, 5, 7), ((0, 63, 0), (1, 5, 0x21), (64, 0, 0x10), (0, 0, 1))),
        ),
        (
            *(Part(b"\xff\xe1", start + b"q") for start in (b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta>")),
            *(Part(b"\xff\xe2", start) for start in (b"ICC_PROFILE\0\1\1q", b"MPF\0")),
            Part(b"\xff\xed", b"Photoshop 3.0\0008BIM\4\4\0\0\0\0\0\4abcd"),
            Part(b"\xff\xee", b"Adobe\0d\0\0\0\0\2"), Part(b"\xff\xe0", b"JFIF\0\1\1\0\0\1\0\1\0\0"),
            Part(b"\xff\xfe", b"comment"), *(Part(b"\xff\xdd", rows) for rows in (b"\0\0", b"\0\1", b"\xff\xff")),
            *(Part(frame, b"\x08\0\x09\0\x0c\1\1\x11\0") for frame in FRAMES),
        ),
        {b"\xff\xe1": 6, b"\xff\xe2": 4},
    ),
    "png": Format(
        [(0, b"\x89PNG\r\n\x1a\n")],
        Tagged(">I4s", before=8, checksum=True),
        (
            *[field(IHDR, ">I", (0, 4), SIDES)] * 2, *[field(IHDR, "B", (8, 9, 12), BITS)] * 2,
            ends((b"IDAT",), 0, [PACKED[size] for size in (0, 1, 400, 1 << 16, 1 << 26)]),
            field((b"acTL",), ">I", [0], (0, 1, 9, 2**31 - 1)), *[field(FCTL, ">I", range(0, 20, 4), SIDES)] * 3,
            field(FCTL, "B", [24], range(4)),
        ),
        (
            *(Part(kind, start + PACKED[size]) for size in (9, 1 << 20, 1 << 26) for kind, start in (
                (b"zTXt", b"Comment\0\0"), (b"iTXt", b"Comment\0\1\0en\0\0"), (b"iCCP", b"icc\0\0"))),
            Part(b"tEXt", b"Comment\0text"), Part(b"PLTE", bytes(771)),
            Part(b"eXIf", b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"),
            *(Part(kind, bytes(range(size))) for kind in (b"tRNS", b"PLTE", b"gAMA") for size in (0, 1, 2, 3, 6, 256)),
        ),
        {b"eXIf": 0},
    ),
    "webp": Format(
        [(8, b"WEBP")],
        Tagged("<4sI", before=12, riff=True),
        (
            field(VP8X, "B", [0], (0, 2, 0x10, 0x3E)),
            *[field(VP8X, "<HB", (4, 7), ((0, 0), (8, 0), (11, 0), (4999, 0), (0x3FFF, 0), (0xFFFF, 255)))] * 2,
            *[field((b"ANMF",), "<I", (0, 3, 6, 9), SIDES)] * 3, *[field((b"VP8 ",), "<H", (6, 8), SHORT_SIDES)] * 2,
            field((b"VP8L",), "<I", [1], [(side - 1) * (1 | 1 << 14) for side in (1, 12, 500, 9999, 16_384)]),
        ),
        [Part(b"VP8X", struct.pack("<IHBHB", flags, side, 0, 8, 0)) for flags in (0, 2) for side in (11, 9999)],
    ),
    "gif": Format(
        [(0, b"GIF8")],
        Gif(),
        (field((b"screen",), "<H", (6, 8), SHORT_SIDES), *[field((b",",), "<H", (1, 3, 5, 7), SHORT_SIDES)] * 2),
        [Part(b"!", b"!" + text) for text in (b"\xfe\5hello\0", b"\xfe" + b"\1x" * 5000 + b"\0", b"\xf9\4\5\0\0\0\0",
                                            b"\xff\x0bNETSCAPE2.0\3\1\0\0\0")],
    ),
    "tiff": Format([(0, b"II*\0"), (0, b"MM\0*")], Directory(), (set_tag, set_tag, set_tag, retype_tag)),
    "j2k": Format(
        [(0, b"\xff\x4f\xff\x51")],
        Tagged(">2sH", counted=2, alone=frozenset(_markers(0x4F)), last=_markers(0x93, 0xD9)),
        (
            field((SIZE,), ">6I", [2], LARGE_JP2), *[field((SIZE,), ">I", range(2, 34, 4), SIDES)] * 8,
            *[field((SIZE,), "B", (36, 37, 38), (0, 1, 2, 7, 15, 37, 255))] * 3, ends((SIZE,), 34, COMPONENTS),
            field((SIZE,), ">2I", [18], [(side, side) for side in (1, 2, 4, 16)]),
            field((CODING,), ">H", [2], (1, 2, 1000, 65_535)),  # layers
            *[field((CODING,), "B", (1, 4, 5, 6, 7, 8, 9), (*range(10), 32, 33))] * 7,  # order, levels, code-blocks
            *[field((CODING,), "6B", [10], [(size,) * 6 for size in (0, 0x11, 0x22, 0x21, 0xFF)])] * 2,  # precincts
            field((TILE,), ">H", [0], (0, 1, 65_534, 65_535)), field((TILE,), ">I", [2], PLACES),
            field((TILE,), "BB", [6], ((0, 0), (1, 1), (254, 255), (255, 0))),
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
            *[field((b"ispe",), ">I", (4, 8), SIDES)] * 2, *[field((b"ihdr",), ">I", (0, 4), SIDES)] * 2,
            field((b"pixi", b"av1C"), ">I", [0], SIDES), *[field((b"iloc",), ">I", (6, 8, 14, 18), SIDES)] * 4,
            field((b"infe",), "4B", [8], [tuple(kind) for kind in (b"grid", b"iovl", b"iden", b"av01")]),
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
        (field(HEAD, "<H", (2, 4, 6, 8, 12), COUNTS), field(HEAD, "<I", [14], SIDES), field(HEAD, "<I", [18], PLACES)),
        within={b"rest": 0},
    ),
    "bmp": Format(
        [(0, b"BM")],
        Head(54),
        (
            *[field(HEAD, "<I", (10, 14, 46), PLACES)] * 2, *[field(HEAD, "<I", (18, 22), SIDES)] * 2,
            field(HEAD, "<H", [28], BITS), field(HEAD, "<I", [30], range(7)),
        ),
    ),
    "tga": Format(
        [(0, b"\0\0\2\0")],
        Head(18),
        (*[field(HEAD, "B", (0, 1, 2, 7, 16, 17), BITS)] * 2, field(HEAD, "<H", (5, 12, 14), SHORT_SIDES)),
    ),
    "ppm": Format(
        [(0, b"P%d" % kind) for kind in range(1, 8)] + [(0, b"Pf")],
        Ppm(),
        (
            ends((b"magic",), 0, (b"P1\n", b"P2\n", b"P3\n", b"P4\n", b"P5\n", b"P6\n", b"P7\n", b"Pf\n")),
            ends((b"width", b"height"), 0, (b"1 ", b"9 ", b"13000 ", b"9" * 11 + b" ", b"0 ", b"-1 ", b"9999999 ")),
            ends((b"depth",), 0, (b"1\n", b"255\n", b"65535\n", b"0\n", b"-9\n")),
        ),
        [Part(b"comment", text + b"\n") for text in (b"#", b"#" + b"c" * 9, b"#" + b"c" * 70_000, b"\n" * 70_000)],
    ),
}  # fmt: skip


def kind_of(content: bytes) -> str:
    """Returns the name of the format that some bytes begin as, or "other"."""
    return next((name for name, one in FORMATS.items() if one.starts(content)), "other")

"""Formats of images: their parts and fields, which change and leave lengths, offsets and checksums right."""

import random
import re
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from checks.fuzz_mutations import MAX_BYTES, REPEATS, Part, change_any, damage, insert
from checks.image_builders import icon, put

SHORT_SIDES = 0, 1, 12, 33, 500, 9999, 13_200, 65_535
SIDES = *SHORT_SIDES, 65_536, 2**31 - 1, 2**31, 2**32 - 1
BITS = *range(12), 12, 16, 24, 32, 64, 255  # and kinds, flags, orders
PLACES = 0, 8, 16, 2**31, 2**32 - 1
TIFF, ICON = (b"II*\0", b"MM\0*"), b"\0\0\1\0"
DEPTHS = 1, 8, 300  # of parts within themselves
Value = int | tuple[int, ...] | bytes
COMPRESSIONS = 32_773, 32_803, 32_946, 34_712, 34_892, 34_925, 50_001, 65_535  # and kinds of pixels
MANY_PLACES = [(place,) * count for place in PLACES for count in (3, 20_000)]
# Of a TIFF's fields, the letter of their type, numbers of tags, and values: of sizes, what pixels are, and places.
TAGS: list[tuple[str, Sequence[int], Sequence[int | tuple[int, ...]]]] = [
    ("I", (256, 257, 278, 322, 323), SIDES),
    ("H", (258, 259, 262, 266, 274, 277, 284, 317, 338, 339), (*BITS, *COMPRESSIONS, (8,) * 3, (16,) * 4, (8,) * 1000)),
    ("I", (273, 279, 320, 324, 325, 330, 347, 700, 34_377, 34_665, 34_675, 34_853, 40_965), [*PLACES, *MANY_PLACES]),
]


def change_tiff(content: bytes, rng: random.Random) -> bytes:
    """Returns a TIFF with another directory at its end, so that all offsets of its pixels stay right.

    A known field has another value, or one of its fields is gone, there twice, or of another type or count.
    """
    order = "<" if content.startswith(b"II") else ">"
    at = struct.unpack_from(order + "I", content.ljust(8, b"\0"), 4)[0]
    count = struct.unpack(order + "H", content[at : at + 2].ljust(2, b"\0"))[0]
    entries = [content[start : start + 12] for start in range(at + 2, min(at + 12 * count, len(content) - 11), 12)]
    letter, numbers, values = rng.choice(TAGS)
    value, way = rng.choice(values), rng.randrange(7)
    several = value if isinstance(value, tuple) else (value,)
    data = struct.pack(f"{order}{len(several)}{letter}", *several).ljust(4, b"\0")
    if entries and way < 4:
        place = rng.randrange(len(entries))
        other = struct.pack(order + "HI", rng.choice((*range(19), 99)), rng.choice((*SIDES, 1 << 28)))
        entries[place : place + 1] = ([], [entries[place]] * 2, *[[put(entries[place], 2, other)]] * 2)[way]
    else:
        where = data if len(data) == 4 else struct.pack(order + "I", len(content))
        entry = struct.pack(order + "HHI", rng.choice(numbers), 3 if letter == "H" else 4, len(several)) + where
        entries = [other for other in entries if other[:2] != entry[:2]] + [entry]
        entries.sort(key=lambda each: struct.unpack_from(order + "H", each))
    content = put(content + data, 4, struct.pack(order + "I", len(content + data)))
    return content + struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)


@dataclass(frozen=True)
class Format:
    """A kind of file whose parts begin with a type and a length."""

    begin: bytes  # a regular expression
    head: str  # type and length in either order, as `struct` writes them
    within: Mapping[bytes, int]  # parts with another file after so many bytes
    # What some parts say, as `struct` writes it, from one of some bytes on, and what it becomes; bytes replace all.
    fields: Sequence[tuple[Sequence[bytes], str, Sequence[int], Sequence[Value]]]
    extra: Sequence[Part]  # are inserted, once or very often
    before: int = 0  # bytes before the first part
    counted: int = 0  # bytes that a length counts beside the data
    checksum: bool = False  # a CRC-32 of type and data follows
    last: tuple[bytes, ...] = ()  # types from which on the rest is one part

    def split(self, content: bytes) -> list[Part]:
        """Returns the parts; what is no whole part is one without a type, to the end."""
        parts, at, size = [(b"", content[: self.before])], self.before, struct.calcsize(self.head)
        while at + size <= len(content) and not content.startswith(self.last, at):
            one, other = struct.unpack_from(self.head, content, at)
            kind, length = (one, other) if isinstance(one, bytes) else (other, one)
            start, end = at + size, at + size + length - self.counted
            if not start <= end <= len(content) - 4 * self.checksum:
                break
            parts.append((kind, content[start:end]))
            at = end + 4 * self.checksum
        return [part for part in (*parts, (b"", content[at:])) if any(part)]

    def join(self, parts: Sequence[Part]) -> bytes:
        return b"".join(self._written(kind, data) if kind else data for kind, data in parts)

    def _written(self, kind: bytes, data: bytes) -> bytes:
        data = data[: 0xFFFF - self.counted] if self.head.endswith("H") else data
        pair = kind, len(data) + self.counted
        checksum = struct.pack(">I", zlib.crc32(kind + data)) if self.checksum else b""
        return struct.pack(self.head, *(pair[::-1] if self.head.endswith("s") else pair)) + data + checksum

    def change(self, content: bytes, seeds: Sequence[bytes], rng: random.Random) -> bytes:
        """Returns the file after one change that leaves its structure right."""
        parts, other = self.split(content), rng.choice(seeds)
        holders = [at for at, (kind, _) in enumerate(parts) if kind in self.within]
        ways: list[Callable[[], None]] = [lambda: change_any(parts, rng)] * 3
        ways += [lambda: self._change_field(parts, rng)] * 5
        ways += [lambda: insert(parts, [rng.choice(self.extra)], rng, rng.choice(REPEATS))] * 2
        ways += [lambda: self._change_within(parts, rng.choice(holders), rng)] * (5 if holders else 0)
        ways += [lambda: insert(parts, [rng.choice(self.split(other))], rng)] * bool(re.match(self.begin, other))
        if parts:
            rng.choice(ways)()
        return self.join(parts)

    def _change_field(self, parts: list[Part], rng: random.Random) -> None:
        kinds, form, offsets, values = rng.choice(self.fields)
        offset, value = rng.choice(offsets), rng.choice(values)
        if places := [at for at, (kind, _) in enumerate(parts) if kind in kinds]:
            at = rng.choice(places)
            kind, data = parts[at]
            if isinstance(value, bytes):
                parts[at] = kind, data[:offset] + value
            else:
                numbers = value if isinstance(value, tuple) else (value,)
                parts[at] = kind, put(data, offset, struct.pack(form, *numbers))

    def _change_within(self, parts: list[Part], at: int, rng: random.Random) -> None:
        """Changes what a part holds and all lengths around it, or puts the part within itself again and again."""
        kind, data = parts[at]
        skipped = self.within[kind]
        if rng.random() < 0.1 and len(data) < MAX_BYTES // DEPTHS[-1]:
            for _ in range(rng.choice(DEPTHS)):
                data = data[:skipped] + self.join([(kind, data)])
        else:
            inner = data[skipped:]
            known = inner.startswith(TIFF) or kind_of(inner) in FORMATS
            data = data[:skipped] + (change if known else self.change)(inner, [inner], rng)
        parts[at] = kind, data


def change(content: bytes, seeds: Sequence[bytes], rng: random.Random) -> bytes:
    """Returns an image after one change of its structure, or of its bytes where that is not known."""
    if content.startswith(TIFF):
        return change_tiff(content, rng)
    if content.startswith(ICON) and rng.random() < 0.7:
        return icon(change(content[22:], seeds, rng))
    one = FORMATS.get(kind_of(content))
    return (one.change if one else damage)(content, seeds, rng)


def kind_of(content: bytes) -> str:
    """Returns the name of the format that some bytes begin as, or "other"."""
    return next((name for name, one in FORMATS.items() if re.match(one.begin, content)), "other")


PACKED = {size: zlib.compress(bytes(size)) for size in (0, 9, 400, 1 << 20, 1 << 26)}
FRAMES = [bytes((0xFF, code)) for code in (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC))]
SIZE, CODING, TILE = [b"\xff\x51"], [b"\xff\x52"], [b"\xff\x90"]
LARGE_JP2 = [(width, height, 0, 0, width, height) for width in SIDES[1:] for height in (1, 2000, 9999, 65_536)]
COMPONENTS = [struct.pack(">H", count) + bytes([7, step, step]) * count for count in (1, 3, 5, 9999) for step in (1, 9)]
BOXES = b"ipco", b"iprp", b"moov", b"trak", b"mdia", b"minf", b"stbl", b"dinf", b"jp2h", b"res ", b"jp2c"
FORMATS = {
    "jpeg": Format(
        b"\xff\xd8\xff", ">2sH", {b"\xff\xe1": 6, b"\xff\xe2": 4}, before=2, counted=2, last=(b"\xff\xda",),
        fields=[(FRAMES, ">HH", [1], [(height, width) for height in SHORT_SIDES for width in SHORT_SIDES]),
                (FRAMES, "B", (0, 5, 7, 7, 10, 13), (*BITS, 0x11, 0x14, 0x22, 0x44))],
        extra=[(b"\xff\xe1", b"Exif\0\0q"), (b"\xff\xe1", b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta>"),
               (b"\xff\xe2", b"ICC_PROFILE\0\1\1q"), (b"\xff\xe2", b"MPF\0"), (b"\xff\xee", b"Adobe\0d\0\0\0\0\2"),
               (b"\xff\xed", b"Photoshop 3.0\0008BIM\4\4\0\0\0\0\0\4abcd"), (b"\xff\xe0", b"JFIF\0\1\1\0\0\1\0\1\0\0"),
               (b"\xff\xfe", b"comment"), *((b"\xff\xdd", rows) for rows in (b"\0\0", b"\0\1", b"\xff\xff")),
               *((frame, b"\x08\0\x09\0\x0c\1\1\x11\0") for frame in FRAMES)],
    ),
    "png": Format(
        b"\x89PNG\r\n\x1a\n", ">I4s", {b"eXIf": 0}, before=8, checksum=True,
        fields=[*[([b"IHDR"], ">I", (0, 4), SIDES)] * 2, *[([b"IHDR"], "B", (8, 9, 12), BITS)] * 2,
                ([b"IDAT"], "", [0], [PACKED[size] for size in (0, 400, 1 << 26)]), ([b"acTL"], ">I", [0], SIDES),
                *[([b"fcTL"], ">I", range(0, 20, 4), SIDES)] * 3],
        extra=[*((kind, start + PACKED[size]) for size in (9, 1 << 20, 1 << 26) for kind, start in (
                   (b"zTXt", b"Comment\0\0"), (b"iTXt", b"Comment\0\1\0en\0\0"), (b"iCCP", b"icc\0\0"))),
               (b"tEXt", b"Comment\0text"), (b"PLTE", bytes(771)),
               (b"eXIf", b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"),
               *((kind, bytes(range(size))) for kind in (b"tRNS", b"PLTE", b"gAMA") for size in (0, 1, 3, 6, 256))],
    ),
    "j2k": Format(
        b"\xff\x4f\xff\x51", ">2sH", {}, before=2, counted=2, last=(b"\xff\x93", b"\xff\xd9"),
        fields=[(SIZE, ">6I", [2], LARGE_JP2), *[(SIZE, ">I", range(2, 34, 4), SIDES)] * 8,
                *[(SIZE, "B", (36, 37, 38), BITS)] * 3, (SIZE, "", [34], COMPONENTS),
                (SIZE, ">2I", [18], [(side, side) for side in (1, 2, 4, 16)]),  # of tiles
                (CODING, ">H", [2], (1, 2, 1000, 65_535)),  # layers
                *[(CODING, "B", (1, 4, 5, 6, 7, 8, 9), BITS)] * 7,  # order, levels, code-blocks
                *[(CODING, "6B", [10], [(size,) * 6 for size in (0, 0x11, 0x21, 0xFF)])] * 2,  # precincts
                (TILE, ">H", [0], SHORT_SIDES), (TILE, ">I", [2], PLACES), (TILE, "B", (6, 7), BITS)],
        extra=[(b"\xff\x53", b"\0\0\5\4\4\0\0"), (b"\xff\x5d", b"\0" + bytes(17)), (b"\xff\x5e", b"\0\0\x25"),
               *((b"\xff\x5f", b"\0\0\0\1\6\1\0" * count) for count in (1, 8000)), (b"\xff\x64", b"\0\1text"),
               (b"\xff\x55", b"\0\x40" + bytes(60_000)), (b"\xff\x57", bytes(3)), (b"\xff\x60", bytes(60_000))],
    ),
    "boxes": Format(
        b"(?s)....(ftyp|jP  )", ">I4s", {b"meta": 4, b"iinf": 6, **dict.fromkeys(BOXES, 0)}, counted=8,
        fields=[([b"ihdr"], ">I", (0, 4), SIDES), ([b"ihdr"], "B", (9, 10, 11), BITS)],
        extra=[*((b"pclr", struct.pack(">HB", count, 3) + bytes(900)) for count in (0, 256, 1024)),
               (b"cmap", bytes(12)), (b"cdef", bytes([0, 9]) + bytes(54)),
               # A length that is to the end, of 64 bits, or more than there is.
               *((b"", struct.pack(">I4sQ", length, b"free", 2**63)) for length in (0, 1, 2, 7, 17, 2**32 - 1))],
    ),
}  # fmt: skip

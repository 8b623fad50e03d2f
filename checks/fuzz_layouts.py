"""How files are split into parts and joined again: lengths, offsets and checksums are right after any change."""

import random
import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from checks.fuzz_mutations import LARGEST_BYTES, NUMBERS, Part
from checks.image_builders import directory

MARKER = re.compile(rb"\xff[^\0\xd0-\xd7]", re.DOTALL)  # of a JPEG, that isn't a part of coded data
WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
TAG = ">HHI"  # number, type of the values, their count: the type of a TIFF's part
TAG_BYTES = 8
MOST_TAGS = 10_000
SHORT, LONG = (3, "H"), (4, "I")
SIDES = 0, 1, 16, 33, 500, 9999, 46_000, 65_535, 1 << 20, 2**31 - 1, 2**32 - 1
ANY_NUMBER = (*(number & 0xFFFFFFFF for number in NUMBERS), *SIDES)
PLACES: tuple[int | tuple[int, ...], ...] = (0, 8, 2**32 - 1, *((place,) * 20_000 for place in (0, 8)), (8,) * 1000)
# Numbers of tags -> type, and what their values are set to.
TAGS: dict[tuple[int, ...], tuple[tuple[int, str], Sequence[int | tuple[int, ...]]]] = {
    (256, 257, 278, 322, 323): (LONG, SIDES),  # sides of the image, of strips and of tiles
    (258,): (SHORT, [(bits,) * many for bits in (0, 1, 2, 4, 8, 12, 16, 32, 64) for many in (1, 3, 4, 1000)]),
    (259,): (SHORT, (1, 2, 3, 4, 5, 6, 7, 8, 32_773, 32_946, 34_925, 34_712, 50_000, 50_001, 34_676, 65_000)),
    (262,): (SHORT, (0, 1, 2, 3, 4, 5, 6, 8, 32_803, 34_892)),  # what samples mean
    (277,): (SHORT, (0, 1, 2, 3, 4, 5, 100, 65_535)),
    (266, 274, 284, 317, 338, 339): (SHORT, (0, 1, 2, 3, 4, 5, 6, 9)),  # order of bits, orientation, planes, predictor
    (273, 324, 330, 34_665, 34_853, 40_965): (LONG, PLACES),  # strips, tiles, and other directories
    (279, 325): (LONG, (0, 1, 100, 1 << 16, 2**32 - 1, *((size,) * 20_000 for size in (0, 1, 100)))),
    (320, 347, 700, 34_377, 34_675, *range(65_000, 65_009)): (LONG, ANY_NUMBER),
}  # fmt: skip


@dataclass(frozen=True)
class Head:
    """A file with a head of fixed places: parts "head" and "rest"; and the joining of any parts that are bytes."""

    size: int = 0

    def split(self, content: bytes) -> list[Part]:
        return [Part(b"head", content[: self.size]), Part(b"rest", content[self.size :])]

    def join(self, parts: Sequence[Part]) -> bytes:
        return b"".join(part.data for part in parts)


class Ppm(Head):
    """The first words of a text, each a part with the space after it, and the rest."""

    def split(self, content: bytes) -> list[Part]:
        kinds = b"magic", b"width", b"height", b"depth", b"rest"
        return [Part(*pair) for pair in zip(kinds, re.split(rb"(?<=\s)", content, maxsplit=4), strict=False)]


class Gif(Head):
    """The screen, then each extension and image, whose types are their first bytes."""

    def split(self, content: bytes) -> list[Part]:
        at = 13 + _colours_bytes(content[10:11])
        parts = [Part(b"screen", content[:at])]
        while at < len(content) and content[at] in b"!,":
            start, kind = at, content[at : at + 1]
            at += 2 if kind == b"!" else 11 + _colours_bytes(content[at + 9 : at + 10])
            while at < len(content) and content[at]:
                at += content[at] + 1
            at += 1
            parts.append(Part(kind, content[start:at]))
        return [*parts, Part(b"", content[at:])]


def _colours_bytes(flags: bytes) -> int:
    """Returns the size of the table of colours that may follow."""
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0


@dataclass(frozen=True)
class Tagged:
    """Parts that begin with a type and a length."""

    head: str  # type and length in either order, as `struct` writes them
    before: int = 0  # bytes before the first part
    counted: int = 0  # bytes that a length counts beside the data
    checksum: bool = False  # a CRC-32 of type and data follows
    riff: bool = False  # parts begin at even offsets, and bytes 4 to 8 of the file hold the length of the rest
    alone: frozenset[bytes] = frozenset()  # types that have no length
    coded: bytes | None = None  # type that data without a length follow, up to the next type
    last: tuple[bytes, ...] = ()  # types from which on the rest is one part

    def split(self, content: bytes) -> list[Part]:
        """Returns the parts; what is no whole part is one without a type, to the end."""
        parts, at, size = [Part(b"", content[: self.before])], self.before, struct.calcsize(self.head)
        while at + size <= len(content) and not content.startswith(self.last, at):
            if content[at : at + 2] in self.alone:
                parts.append(Part(content[at : at + 2], b""))
                at += 2
                continue
            one, other = struct.unpack_from(self.head, content, at)
            kind, length = (one, other) if isinstance(one, bytes) else (other, one)
            start, end = at + size, at + size + length - self.counted
            after = end + 4 * self.checksum + length % 2 * self.riff
            if not start <= end <= after <= len(content):
                break
            parts.append(Part(kind, content[start:end]))
            at = after
            if kind == self.coded:
                found = MARKER.search(content, after)
                at = found.start() if found else len(content)
                parts.append(Part(b"", content[after:at]))
        return [part for part in (*parts, Part(b"", content[at:])) if part.kind or part.data]

    def join(self, parts: Sequence[Part]) -> bytes:
        """Returns the file."""
        content = b"".join(self._written(part) if part.kind else part.data for part in parts)
        return content[:4] + struct.pack("<I", len(content) - 8) + content[8:] if self.riff and content[7:] else content

    def _written(self, part: Part) -> bytes:
        if part.kind in self.alone:
            return part.kind
        data = part.data[: 0xFFFF - self.counted] if self.head.endswith("H") else part.data
        length = len(data) + self.counted
        pair = (length, part.kind) if self.head.endswith("s") else (part.kind, length)
        checksum = struct.pack(">I", zlib.crc32(part.kind + data)) if self.checksum else b""
        return struct.pack(self.head, *pair) + data + checksum + bytes(length % 2 * self.riff)


class Directory(Head):
    """A TIFF: the file as it is, then the tags of its first directory."""

    def split(self, content: bytes) -> list[Part]:
        """Returns the parts; no tags where the directory is broken."""
        order, parts, room = _order(content), [Part(b"", content)], LARGEST_BYTES // 2
        at = struct.unpack_from(order + "I", content, 4)[0] if len(content) >= 8 else len(content)
        count = struct.unpack_from(order + "H", content, at)[0] if at + 2 <= len(content) else 0
        for start in range(at + 2, min(at + 2 + 12 * count, len(content) - 11), 12):
            number, kind, values = struct.unpack_from(order + "HHI", content, start)
            size = WIDTHS.get(kind, 1) * values
            place = start + 8 if size <= 4 else struct.unpack_from(order + "I", content, start + 8)[0]
            data = content[place : place + min(size, room)]
            room -= len(data)  # many tags may have the same values
            parts.append(Part(struct.pack(TAG, number, kind, values), data))
        return parts

    def join(self, parts: Sequence[Part]) -> bytes:
        """Returns the file with another directory at its end, so that all offsets of its pixels stay right."""
        content = b"".join(part.data for part in parts if len(part.kind) != TAG_BYTES)
        tags = sorted((part for part in parts if len(part.kind) == TAG_BYTES), key=lambda part: part.kind[:2])
        if len(content) < 8 or not tags:
            return content
        order, places, fields = _order(content), bytearray(content[8 : LARGEST_BYTES // 2]), []
        for part in tags[:MOST_TAGS]:
            number, *kind_and_count = struct.unpack(TAG, part.kind)
            places += bytes(len(places) % 2)
            value = part.data.ljust(4, b"\0")
            if len(part.data) > 4:
                value = struct.pack(order + "I", 8 + len(places))
                places += part.data
            fields.append((number, (*kind_and_count, *struct.unpack(order + "I", value))))
        return directory(fields, order, places=bytes(places) + bytes(len(places) % 2))


def _order(content: bytes) -> str:
    return "<" if content.startswith(b"II") else ">"


def set_tag(parts: list[Part], rng: random.Random) -> None:
    """Gives a known tag another value, whether it was there or not."""
    numbers = rng.choice(list(TAGS))
    number, ((kind, letter), values) = rng.choice(numbers), TAGS[numbers]
    value = rng.choice(values)
    several = value if isinstance(value, tuple) else (value,)
    data = struct.pack(f"{_order(parts[0].data)}{len(several)}{letter}", *several)
    parts[:] = [part for part in parts if part.kind[:2] != number.to_bytes(2)]
    parts.append(Part(struct.pack(TAG, number, kind, len(several)), data))


def retype_tag(parts: list[Part], rng: random.Random) -> None:
    """Changes the type or count of a tag's values, which need not be there."""
    at = rng.randrange(len(parts))
    if parts[at].kind:
        count = rng.choice((0, 1, 2, 3, 1000, 1 << 16, 1 << 28, 2**31, 2**32 - 1))
        kind = parts[at].kind[:2] + struct.pack(">HI", rng.choice((*WIDTHS, 0, 14, 99)), count)
        parts[at] = Part(kind, parts[at].data)

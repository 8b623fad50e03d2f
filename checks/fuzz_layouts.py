"""Layouts of their own: TIFF's directory of tags, GIF's blocks, and the words in the head of a PPM."""

import random
import struct
from collections.abc import Sequence

from checks.fuzz_mutations import LARGEST_BYTES, NUMBERS
from checks.fuzz_parts import Part

WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
MOST_TAGS = 10_000
TAG = ">HHI"  # number, type of the values, their count: the type of a part
SHORT, LONG = 3, 4
SIDES = 0, 1, 16, 33, 500, 9999, 46_000, 65_535, 1 << 20, 2**31 - 1, 2**32 - 1
ANY_NUMBER = (*(number & 0xFFFFFFFF for number in NUMBERS), *SIDES)
PLACES: tuple[int | tuple[int, ...], ...] = (0, 8, 2**32 - 1, *((place,) * 20_000 for place in (0, 8)), (8,) * 1000)
# Numbers of tags -> type, and what their values are set to.
TAGS: dict[tuple[int, ...], tuple[int, Sequence[int | tuple[int, ...]]]] = {
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


class Directory:
    """A TIFF: the file as it is, then the tags of its first directory, with numbers in big-endian order."""

    def split(self, content: bytes) -> list[Part]:
        """Returns the parts; no tags where the directory is broken."""
        form, parts, room = _order(content), [Part(b"", content)], LARGEST_BYTES // 2
        at = struct.unpack_from(form + "I", content, 4)[0] if len(content) >= 8 else len(content)
        count = struct.unpack_from(form + "H", content, at)[0] if at + 2 <= len(content) else 0
        for start in range(at + 2, min(at + 2 + 12 * count, len(content) - 11), 12):
            number, kind, values = struct.unpack_from(form + "HHI", content, start)
            size = WIDTHS.get(kind, 1) * values
            place = start + 8 if size <= 4 else struct.unpack_from(form + "I", content, start + 8)[0]
            data = content[place : place + min(size, room)]
            room -= len(data)  # many tags may have the same values
            parts.append(Part(struct.pack(TAG, number, kind, values), _ordered(data, kind, form)))
        return parts

    def join(self, parts: Sequence[Part]) -> bytes:
        """Returns the file with another directory at its end, so that all offsets of its pixels stay right."""
        content = b"".join(part.data for part in parts if len(part.kind) != struct.calcsize(TAG))
        tags = sorted(
            (part for part in parts if len(part.kind) == struct.calcsize(TAG)), key=lambda part: part.kind[:2]
        )
        if len(content) < 8 or not tags:
            return content
        form, tags = _order(content), tags[:MOST_TAGS]
        content = content[: LARGEST_BYTES // 2]
        content += bytes(len(content) % 2)
        place = len(content) + 2 + 12 * len(tags) + 4
        entries, values = bytearray(), bytearray()
        for part in tags:
            number, kind, count = struct.unpack(TAG, part.kind)
            data = _ordered(part.data, kind, form)
            inline = data.ljust(4, b"\0") if len(data) <= 4 else struct.pack(form + "I", place + len(values))
            entries += struct.pack(form + "HHI", number, kind, count) + inline
            values += data + bytes(len(data) % 2) if len(data) > 4 else b""
        start = struct.pack(form + "I", len(content))
        return b"".join(
            (content[:4], start, content[8:], struct.pack(form + "H", len(tags)), entries, bytes(4), values)
        )


def _order(content: bytes) -> str:
    return "<" if content.startswith(b"II") else ">"


def _ordered(data: bytes, kind: int, form: str) -> bytes:
    """Returns a tag's values in the other order of bytes, where the file has that."""
    width = {5: 4, 10: 4}.get(kind, WIDTHS.get(kind, 1))  # fractions are two numbers
    if form == ">" or width == 1:
        return data
    return b"".join(data[at : at + width][::-1] for at in range(0, len(data), width))


def set_tag(parts: list[Part], rng: random.Random) -> None:
    """Gives a known tag another value, whether it was there or not."""
    numbers = rng.choice(list(TAGS))
    number, (kind, values) = rng.choice(numbers), TAGS[numbers]
    value = rng.choice(values)
    several = value if isinstance(value, tuple) else (value,)
    parts[:] = [part for part in parts if not part.kind or part.kind[:2] != number.to_bytes(2)]
    data = struct.pack(f">{len(several)}{'H' if kind == SHORT else 'I'}", *several)
    parts.append(Part(struct.pack(TAG, number, kind, len(several)), data))


def retype_tag(parts: list[Part], rng: random.Random) -> None:
    """Changes the type or count of a tag's values, which need not be there."""
    at = rng.randrange(len(parts))
    if parts[at].kind:
        count = rng.choice((0, 1, 2, 3, 1000, 1 << 16, 1 << 28, 2**31, 2**32 - 1))
        kind = parts[at].kind[:2] + struct.pack(">HI", rng.choice((*WIDTHS, 0, 14, 99)), count)
        parts[at] = Part(kind, parts[at].data)


class Gif:
    """The screen, then each extension and image, whose types are their first bytes."""

    def split(self, content: bytes) -> list[Part]:
        """Returns the parts."""
        at = 13 + _colours_bytes(content[10:11])
        parts = [Part(b"screen", content[:at])]
        while at < len(content) and content[at] in b"!,":
            start = at
            at += 2
            if content[start] == ord(","):
                at = start + 11 + _colours_bytes(content[start + 9 : start + 10])
            while at < len(content) and content[at]:
                at += content[at] + 1
            at += 1
            parts.append(Part(content[start : start + 1], content[start + 1 : at]))
        return [*parts, Part(b"", content[at:])]

    def join(self, parts: Sequence[Part]) -> bytes:
        """Returns the file."""
        return b"".join((part.kind if part.kind != b"screen" else b"") + part.data for part in parts)


def _colours_bytes(flags: bytes) -> int:
    """Returns the size of the table of colours that may follow."""
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0


class Ppm:
    """The first words of a text, each a part, and the rest."""

    kinds = b"magic", b"width", b"height", b"depth"

    def split(self, content: bytes) -> list[Part]:
        """Returns the parts."""
        *words, rest = content.replace(b" ", b"\n", 1).split(b"\n", len(self.kinds)) if b"\n" in content else [content]
        return [*(Part(kind, word) for kind, word in zip(self.kinds, words, strict=False)), Part(b"rest", rest)]

    def join(self, parts: Sequence[Part]) -> bytes:
        """Returns the file."""
        return b"".join(part.data if part.kind == b"rest" else part.data + b"\n" for part in parts)

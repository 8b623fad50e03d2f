"""Small heads with large consequences: BMP, ICO, GIF, PPM and TGA."""

import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from checks.fuzz_structures.parts import REPEATS, Part, Parts, edit, insert, put

SIDES = 0, 1, 12, 33, 500, 9999, 13_200, 65_536, 2**31 - 1, 2**31, 2**32 - 1
COLOURS = 0x80  # GIF: a table of colours follows


def split_gif(content: bytes) -> list[Part]:
    """Returns the screen, then each extension and image, whose kinds are their first bytes."""
    size = 3 << (content[10] & 7) + 1 if len(content) > 10 and content[10] & COLOURS else 0
    parts, at = [Part(b"", content[: 13 + size])], 13 + size
    while at < len(content) and content[at] in b"!,":
        start = at
        at += 2
        if content[start] == ord(","):
            flags = content[start + 9] if start + 9 < len(content) else 0
            at = start + 11 + (3 << (flags & 7) + 1 if flags & COLOURS else 0)
        while at < len(content) and content[at]:
            at += content[at] + 1
        at += 1
        parts.append(Part(content[start : start + 1], content[start + 1 : at]))
    return [*parts, Part(b"", content[at:])]


def join_gif(parts: Sequence[Part]) -> bytes:
    """Returns the file."""
    return b"".join(part.kind + part.data for part in parts)


def _screen(parts: list[Part], rng: random.Random) -> None:
    parts[0] = Part(b"", put(parts[0].data, rng.choice((6, 8)), "<H", rng.choice(SIDES) & 0xFFFF))


def _frame(parts: list[Part], rng: random.Random) -> None:
    """A frame's place or size."""
    edit(parts, [b","], lambda data: put(data, 2 * rng.randrange(4), "<H", rng.choice(SIDES) & 0xFFFF))


def _extension(parts: list[Part], rng: random.Random) -> None:
    some = b"\xfe\5hello\0", b"\xfe" + b"\1x" * 5000 + b"\0", b"\xf9\4\5\0\0\0\0", b"\xff\x0bNETSCAPE2.0\3\1\0\0\0"
    insert(parts, Part(b"!", rng.choice(some)), rng, rng.choice(REPEATS))


GIF = Parts(lambda content: content[:4] == b"GIF8", split_gif, join_gif, (_screen, _frame, _extension))


@dataclass(frozen=True)
class Head:
    """A kind of file with a fixed head.

    Attributes:
      begins: its first bytes.
      fields: offset, form and values of each number that is changed.
    """

    begins: bytes
    fields: Sequence[tuple[int, str, Sequence[int]]]

    def starts(self, content: bytes) -> bool:
        """Whether some bytes are of this kind."""
        return content.startswith(self.begins)

    def change(self, content: bytes, seeds: Sequence[bytes], rng: random.Random) -> bytes:
        """Returns the file with other numbers in its head."""
        for _ in range(rng.randint(1, 3)):
            offset, form, values = rng.choice(self.fields)
            content = put(content, offset, form, rng.choice(values))
        return content


BMP = Head(
    b"BM",
    (
        (10, "<I", (0, 14, 54, 2**31, 2**32 - 1)),
        (14, "<I", (12, 16, 40, 52, 56, 64, 108, 124, 0, 2**32 - 1)),
        (18, "<I", SIDES),
        (22, "<I", SIDES),
        (28, "<H", (0, 1, 2, 4, 8, 16, 24, 32, 64)),
        (30, "<I", (0, 1, 2, 3, 4, 5, 6)),
        (46, "<I", (0, 1, 256, 2**31, 2**32 - 1)),
    ),
)
TGA = Head(
    b"\0\0\2\0",
    (
        (0, "B", (0, 255)),
        (1, "B", (0, 1)),
        (2, "B", (1, 2, 3, 9, 10, 11)),
        (5, "<H", SIDES[:6]),
        (7, "B", (16, 24, 32)),
        (12, "<H", SIDES[:6]),
        (14, "<H", SIDES[:6]),
        (16, "B", (1, 8, 16, 24, 32)),
        (17, "B", (0, 8, 0x20, 0x30)),
    ),
)
ICO_FIELDS = Head(
    b"\0\0\1\0",
    (
        (2, "<H", (1, 2)),
        (4, "<H", (0, 1, 2, 100, 65_535)),
        (6, "<H", (0, 0x0101, 0xFFFF)),
        (8, "<H", (0, 2, 256)),
        (12, "<H", (0, 1, 4, 8, 24, 32)),
        (14, "<I", SIDES),
        (18, "<I", (0, 6, 22, 2**32 - 1)),
    ),
)


def ico(images: Sequence[bytes]) -> bytes:
    """Returns an icon with any images within, all of which it says are 16 x 16 px."""
    entries, place = b"", 6 + 16 * len(images)
    for image in images:
        entries += struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(image), place)
        place += len(image)
    return struct.pack("<HHH", 0, 1, len(images)) + entries + b"".join(images)


def same_ico(image: bytes, times: int) -> bytes:
    """Returns an icon that has the same image so many times, each as another size, in the same bytes."""
    place = 6 + 16 * times
    entries = (struct.pack("<BBBBHHII", 1 + n % 255, 16, 0, 0, 1, 32, len(image), place) for n in range(times))
    return struct.pack("<HHH", 0, 1, times) + b"".join(entries) + image


def bitmap(width: int, height: int, bits: int = 1, compression: int = 0, data: bytes = b"", file: bool = True) -> bytes:
    """Returns a BMP, or what an icon has of one: its head and the given data, whatever size the head says."""
    head = struct.pack("<IIIHHIIIIII", 40, width, height, 1, bits, compression, len(data), 0, 0, 2, 0)
    colours = b"\0\0\0\0\xff\xff\xff\0"
    return (b"BM" + struct.pack("<IHHI", 62 + len(data), 0, 0, 62) if file else b"") + head + colours + data


def change_ppm(content: bytes, rng: random.Random) -> bytes:
    """Returns a PPM with another kind, size, depth, or comments in its head."""
    side = rng.choice((b"1", b"9", b"13000", b"9" * 11, b"0", b"-1", b"9999999"))
    kind, _, rest = content.partition(b"\n")
    fields = rest.split(b" ", 1)
    changes = (
        rng.choice((b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"P7", b"Pf")) + b"\n" + rest,
        kind + b"\n" + side + b" " + fields[-1],
        kind + b"\n" + side + b" " + side + b"\n" + rng.choice((b"1", b"255", b"65535", b"0", b"-9")) + b"\n",
        kind + b"\n" + b"#" + b"c" * rng.choice((9, 70_000)) + b"\n" + rest,
        kind + b"\n" * rng.choice((2, 70_000)) + rest,
    )
    return rng.choice(changes)

"""JPEG 2000: the head of its codestream, where sizes, tiles, precincts and layers stand."""

import random
import struct
from collections.abc import Sequence

from checks.fuzz_structures.parts import Part, Parts, edit, find, insert, put

SIZE, CODING, QUANTA, TILE, DATA, END = b"\xff\x51", b"\xff\x52", b"\xff\x5c", b"\xff\x90", b"\xff\x93", b"\xff\xd9"
START = b"\xff\x4f"
SIDES = 1, 2, 16, 65, 500, 2000, 9999, 65_536, 2**31 - 1, 2**32 - 1
TILES_AT = 18, 22  # of the head's data: a tile's width and height
LEVELS = 5  # of the coding's data: how often the image is halved


def split(content: bytes) -> list[Part]:
    """Returns the markers of a codestream; from the first tile's data on, all is one part without a kind."""
    parts, at = [Part(START, b"")], 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker = content[at : at + 2]
        if marker in (DATA, END):
            break
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        parts.append(Part(marker, content[at + 4 : at + 2 + length]))
        at += 2 + max(length, 2)
    return [*parts, Part(b"", content[at:])] if content[at:] else parts


def join(parts: Sequence[Part]) -> bytes:
    """Returns the codestream."""
    return b"".join(
        part.kind + (struct.pack(">H", len(part.data[:65_533]) + 2) + part.data[:65_533] if part.kind != START else b"")
        if part.kind
        else part.data
        for part in parts
    )


def _size(parts: list[Part], rng: random.Random) -> None:
    """The image's size, with tiles as large."""
    width, height = rng.choice(SIDES), rng.choice(SIDES)
    edit(parts, [SIZE], lambda data: put(data, 2, ">IIIIII", width, height, 0, 0, width, height))


def _field(parts: list[Part], rng: random.Random) -> None:
    """One number of the size: of the image, of a tile, of where they begin, of a component's steps."""
    if rng.random() < 0.6:
        edit(parts, [SIZE], lambda data: put(data, 2 + 4 * rng.randrange(8), ">I", rng.choice(SIDES)))
    else:
        edit(parts, [SIZE], lambda data: put(data, 36 + rng.randrange(3), "B", rng.choice((0, 1, 2, 7, 15, 37, 255))))


def _components(parts: list[Part], rng: random.Random) -> None:
    """Another number of components, all described."""
    count, step = rng.choice((1, 2, 3, 4, 5, 100, 10_000)), rng.choice((1, 1, 2, 255))
    edit(parts, [SIZE], lambda data: data[:34] + struct.pack(">H", count) + bytes([7, step, step]) * count)


def _coding(parts: list[Part], rng: random.Random) -> None:
    """Order, layers, transform of colours, levels, code blocks or filter."""
    place, values = rng.choice(
        (
            (1, range(6)),
            (3, (0, 1)),
            (LEVELS, (0, 1, 6, 32, 33)),
            (6, range(10)),
            (7, range(10)),
            (8, range(64)),
            (9, (0, 1)),
        )
    )
    edit(parts, [CODING], lambda data: put(data, place, "B", rng.choice(values)))
    edit(parts, [CODING], lambda data: put(data, 2, ">H", rng.choice((1, 1, 2, 1000, 65_535))))
    _quanta(parts)


def _precincts(parts: list[Part], rng: random.Random) -> None:
    """Precincts of any size at each level."""
    size = rng.choice((0x00, 0x11, 0x22, 0x21, 0xFF))
    edit(parts, [CODING], lambda data: with_precincts(data, size))


def with_precincts(coding: bytes, size: int) -> bytes:
    """Returns a coding whose precincts have two to the power of so many pixels, a half byte each for both sides."""
    return bytes([coding[0] | 1]) + coding[1:10] + bytes([size] * (coding[LEVELS] + 1)) if len(coding) >= 10 else coding


def _quanta(parts: list[Part]) -> None:
    """Makes the quantisation fit the number of levels, without which nothing else is looked at."""
    if (at := find(parts, CODING)) is not None and len(parts[at].data) > LEVELS:
        edit(parts, [QUANTA], lambda data: data[:1] + bytes([0x48] * (3 * min(parts[at].data[LEVELS], 32) + 1)))


def _tiles(parts: list[Part], rng: random.Random) -> None:
    """Very small tiles, of most of which there is no data."""
    side = rng.choice((1, 2, 4, 16))
    edit(parts, [SIZE], lambda data: put(data, TILES_AT[0], ">II", side, side))


def _more(parts: list[Part], rng: random.Random) -> None:
    """Markers that say something of components, of order or of tiles that are there, or not."""
    some = (
        Part(b"\xff\x53", b"\0\0\5\4\4\0\0"), Part(b"\xff\x5d", b"\0" + bytes(17)), Part(b"\xff\x5e", b"\0\0\x25"),
        Part(b"\xff\x5f", b"\0\0\0\1\6\1\0" * rng.choice((1, 32, 8000))), Part(b"\xff\x64", b"\0\1text"),
        Part(b"\xff\x55", b"\0\x40" + bytes(60_000)), Part(b"\xff\x57", bytes(3)), Part(b"\xff\x60", bytes(60_000)),
        Part(b"\xff\x74", bytes(12)), Part(b"\xff\x75", bytes(12)), Part(b"\xff\x77", bytes(12)),
    )  # fmt: skip
    rest = parts[2:]
    insert(rest, rng.choice(some), rng, rng.choice((1, 9, 1000)))
    parts[2:] = rest


def _parts_of_tiles(parts: list[Part], rng: random.Random) -> None:
    """Another tile's number, length or number of parts."""
    edit(parts, [TILE], lambda data: put(data, 0, ">H", rng.choice((0, 1, 65_534, 65_535))))
    edit(parts, [TILE], lambda data: put(data, 2, ">I", rng.choice((0, 12, 14, 2**31, 2**32 - 1))))
    edit(parts, [TILE], lambda data: put(data, 6, "BB", rng.choice((0, 1, 254, 255)), rng.choice((0, 1, 255))))


STRUCTURE = Parts(
    lambda content: content.startswith(b"\xff\x4f\xff\x51"),
    split,
    join,
    (_size, _size, _field, _components, _coding, _precincts, _precincts, _tiles, _more, _parts_of_tiles),
)


def large(content: bytes, width: int, height: int, precincts: int | None = None, tile: int | None = None) -> bytes:
    """Returns a codestream with another size, and with precincts or tiles of its own where they are given."""
    parts = split(content)
    sides = (tile, tile) if tile else (width, height)
    edit(parts, [SIZE], lambda data: put(data, 2, ">IIIIII", width, height, 0, 0, *sides))
    if precincts is not None:
        edit(parts, [CODING], lambda data: with_precincts(data, precincts))
    return join(parts)


def with_layers(content: bytes, layers: int) -> bytes:
    """Returns a codestream that says it has so many layers."""
    parts = split(content)
    edit(parts, [CODING], lambda data: put(data, 2, ">H", layers))
    return join(parts)


def with_components(content: bytes, count: int) -> bytes:
    """Returns a codestream that says it has so many components."""
    parts = split(content)
    edit(parts, [SIZE], lambda data: data[:34] + struct.pack(">H", count) + b"\7\1\1" * count)
    return join(parts)

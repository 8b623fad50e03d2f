"""TIFF: its directories of tags, in both orders of bytes."""

import random
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from checks.fuzz_mutations import LARGEST_BYTES, NUMBERS

WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
BYTE, SHORT, LONG = 1, 3, 4
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, STRIPS, SAMPLES, ROWS, COUNTS = (
    256,
    257,
    258,
    259,
    262,
    273,
    277,
    278,
    279,
)
PLANES, PREDICTOR, TILE_WIDTH, TILE_HEIGHT, TILES, TILE_COUNTS, SUBDIRECTORIES = 284, 317, 322, 323, 324, 325, 330
EXTRA, FORMAT, JPEG_TABLES, EXIF, GPS, ORIENTATION = 338, 339, 347, 34665, 34853, 274
PLAIN, DEFLATE = 1, 8
MOST_TAGS = 10_000
COMPRESSIONS = 1, 2, 3, 4, 5, 6, 7, 8, 32_773, 32_946, 34_925, 34_712, 50_000, 50_001, 34_676, 65_000
SIDES = 0, 1, 16, 33, 500, 9999, 46_000, 65_535, 1 << 20, 2**31 - 1, 2**32 - 1
KNOWN = (
    WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, STRIPS, SAMPLES, ROWS, COUNTS, PLANES, PREDICTOR, TILE_WIDTH,
    TILE_HEIGHT, TILES, TILE_COUNTS, SUBDIRECTORIES, EXTRA, FORMAT, JPEG_TABLES, EXIF, GPS, ORIENTATION, 320, 700,
    34377, 34675,
)  # fmt: skip


@dataclass(frozen=True)
class Tag:
    """An entry of a directory.

    Attributes:
      number, kind: what it is, and the type of its values.
      count: of values, as stated; `data` may hold others.
      data: the values' bytes.
    """

    number: int
    kind: int
    count: int
    data: bytes


def starts(content: bytes) -> bool:
    """Whether some bytes begin as a TIFF does."""
    return content[:4] in (b"II*\0", b"MM\0*")


def order(content: bytes) -> str:
    """Returns "<" or ">", in which numbers stand."""
    return "<" if content.startswith(b"II") else ">"


def tag(form: str, number: int, kind: int, *values: int) -> Tag:
    """Returns a tag of whole numbers."""
    letter = {BYTE: "B", SHORT: "H", LONG: "I"}[kind]
    return Tag(number, kind, len(values), struct.pack(f"{form}{len(values)}{letter}", *values))


def read(content: bytes) -> list[Tag]:
    """Returns the tags of the first directory; none where it is broken."""
    form, tags, room = order(content), [], LARGEST_BYTES
    at = int.from_bytes(content[4:8], "little" if form == "<" else "big")
    for _ in range(int.from_bytes(content[at : at + 2], "little" if form == "<" else "big")):
        entry = content[at + 2 : at + 14]
        if len(entry) < 12:
            break
        number, kind, count = struct.unpack(form + "HHI", entry[:8])
        size = WIDTHS.get(kind, 1) * count
        start = at + 10 if size <= 4 else struct.unpack(form + "I", entry[8:])[0]
        data = content[start : start + min(size, room)]
        room -= len(data)  # many tags may have the same values
        tags.append(Tag(number, kind, count, data))
        at += 12
    return tags


def directory(tags: Sequence[Tag], start: int, form: str, following: int = 0) -> bytes:
    """Returns a directory that stands at an offset, with the values that do not fit into it after it."""
    entries, values, place = bytearray(), bytearray(), start + 2 + 12 * len(tags) + 4
    for one in tags:
        inline = one.data.ljust(4, b"\0") if len(one.data) <= 4 else struct.pack(form + "I", place + len(values))
        entries += struct.pack(form + "HHI", one.number, one.kind, one.count & 0xFFFFFFFF) + inline
        values += one.data + bytes(len(one.data) % 2) if len(one.data) > 4 else b""
    return struct.pack(form + "H", len(tags)) + bytes(entries) + struct.pack(form + "I", following) + bytes(values)


def file(form: str, tags: Sequence[Tag], data: bytes = b"", following: int | None = None) -> bytes:
    """Returns a TIFF: its head, data at offset 8, then a directory; `following` is where the next one is said to be."""
    start = 8 + len(data) + len(data) % 2
    head = (b"II*\0" if form == "<" else b"MM\0*") + struct.pack(form + "I", start)
    return head + data + bytes(len(data) % 2) + directory(tags, start, form, following or 0)


def pixels(form: str, data: bytes, side: int, tiles: int = 0, **more: int) -> bytes:
    """Returns a grey square, in one strip or a tile of another side; `more` is a compression or further tags."""
    tags = {WIDTH: side, HEIGHT: side, BITS: 8, COMPRESSION: more.get("compression", PLAIN), PHOTOMETRIC: 1, SAMPLES: 1}
    if tiles:
        tags |= {TILE_WIDTH: tiles, TILE_HEIGHT: tiles, TILES: 8, TILE_COUNTS: len(data)}
    else:
        tags |= {STRIPS: 8, ROWS: side, COUNTS: len(data)}
    return file(form, [tag(form, number, LONG, value) for number, value in sorted(tags.items())], data)


def change(content: bytes, seeds: Sequence[bytes], rng: random.Random) -> bytes:
    """Returns the file with another directory at its end, so that all offsets of its pixels stay right."""
    form, tags = order(content), read(content)
    if not tags:
        return content
    content = content[: LARGEST_BYTES // 2]
    content += bytes(len(content) % 2)
    start = len(content)
    following = rng.choice((0, 0, 0, start, 8, start + 1, 2**32 - 1))
    rng.choice(CHANGES)(tags, form, start, rng)
    del tags[MOST_TAGS:]
    tags.sort(key=lambda one: one.number)
    return content[:4] + struct.pack(form + "I", start) + content[8:] + directory(tags, start, form, following)


def _set(tags: list[Tag], *some: Tag) -> None:
    numbers = {one.number for one in some}
    tags[:] = [one for one in tags if one.number not in numbers] + list(some)


def _value(tags: list[Tag], form: str, start: int, rng: random.Random) -> None:
    """Another value of a known tag."""
    _set(tags, tag(form, rng.choice(KNOWN), LONG, rng.choice((*NUMBERS, *SIDES)) & 0xFFFFFFFF))


def _size(tags: list[Tag], form: str, start: int, rng: random.Random) -> None:
    _set(tags, tag(form, rng.choice((WIDTH, HEIGHT, ROWS)), LONG, rng.choice(SIDES)))


def _kind(tags: list[Tag], form: str, start: int, rng: random.Random) -> None:
    """Another type or count of a tag's values, which need not be there."""
    at = rng.randrange(len(tags))
    count = rng.choice((0, 1, 2, 3, 1000, 1 << 16, 1 << 28, 2**31, 2**32 - 1, tags[at].count))
    tags[at] = replace(tags[at], kind=rng.choice((*WIDTHS, 0, 14, 99)), count=count)


def _coding(tags: list[Tag], form: str, start: int, rng: random.Random) -> None:
    """Another compression, depth, number of samples, meaning of colours, planes or predictor."""
    number, values = rng.choice((
        (COMPRESSION, COMPRESSIONS), (PHOTOMETRIC, (0, 1, 2, 3, 4, 5, 6, 8, 32_803, 34_892)), (PLANES, (1, 2, 3)),
        (SAMPLES, (0, 1, 2, 3, 4, 5, 100, 65_535)), (PREDICTOR, (1, 2, 3)), (FORMAT, (1, 2, 3, 4)), (EXTRA, (0, 1, 2)),
        (ORIENTATION, (0, 1, 5, 6, 9)), (266, (1, 2)),
    ))  # fmt: skip
    _set(tags, tag(form, number, SHORT, rng.choice(values)))
    if rng.random() < 0.5:
        bits = [rng.choice((0, 1, 2, 4, 8, 12, 16, 32, 64))] * rng.choice((1, 2, 3, 4, 5, 1000))
        _set(tags, tag(form, BITS, SHORT, *bits))


def _tiles(tags: list[Tag], form: str, start: int, rng: random.Random) -> None:
    """Tiles in place of strips, of any size, with the data that the strips had."""
    offsets = next((one for one in tags if one.number in (STRIPS, TILES)), None)
    counts = next((one for one in tags if one.number in (COUNTS, TILE_COUNTS)), None)
    tags[:] = [one for one in tags if one.number not in (STRIPS, ROWS, COUNTS, TILES, TILE_COUNTS)]
    _set(tags, *(tag(form, number, LONG, rng.choice(SIDES)) for number in (TILE_WIDTH, TILE_HEIGHT)))
    many = rng.choice((1, 1, 1, 9, 20_000))
    for number, old in ((TILES, offsets), (TILE_COUNTS, counts)):
        if old:
            repeated = old.data[: LARGEST_BYTES // 8 // many] * many
            tags.append(Tag(number, old.kind, old.count * many, repeated))


def _strips(tags: list[Tag], form: str, start: int, rng: random.Random) -> None:
    """Very many strips of a row or less, all of which may be the same bytes."""
    many = rng.choice((2, 100, 20_000))
    place, size = rng.choice((8, 0, start)), rng.choice((0, 1, 100, 1 << 16))
    _set(tags, tag(form, STRIPS, LONG, *[place] * many), tag(form, COUNTS, LONG, *[size] * many))
    _set(tags, tag(form, ROWS, LONG, rng.choice((0, 1, 2, 2**32 - 1))))


def _loop(tags: list[Tag], form: str, start: int, rng: random.Random) -> None:
    """A directory within a directory that is the same one."""
    number = rng.choice((EXIF, GPS, SUBDIRECTORIES, 40_965))
    _set(tags, tag(form, number, LONG, *[rng.choice((start, 8, 0, 2**32 - 1))] * rng.choice((1, 1, 1000))))


def _many(tags: list[Tag], form: str, start: int, rng: random.Random) -> None:
    """Thousands of tags, or the same one again."""
    one = rng.choice(tags)
    numbers = rng.choice(([one.number], range(65_000 - 5000, 65_000), [one.number] * 5000))
    tags.extend(replace(one, number=number) for number in numbers)


def _remove(tags: list[Tag], form: str, start: int, rng: random.Random) -> None:
    del tags[rng.randrange(len(tags))]


CHANGES = _value, _size, _size, _kind, _coding, _coding, _tiles, _strips, _loop, _many, _remove


def seeds() -> list[bytes]:
    """Returns valid images in both orders, plain and packed, in strips and tiles."""
    found = []
    for form in "<>":
        found += [pixels(form, bytes(range(256)), 16), pixels(form, bytes(256), 16, tiles=16)]
        packed = zlib.compress(bytes(256))
        found += [pixels(form, packed, 16, compression=DEFLATE), pixels(form, packed, 16, 16, compression=DEFLATE)]
    return found


def hostile() -> list[bytes]:
    """Returns tiles far larger than the image, loops of directories, and strips without end."""
    small, packed = bytes(256), zlib.compress(bytes(999))
    loops = [
        file(form, [*read(pixels(form, small, 16)), tag(form, EXIF, LONG, 8 + len(small))], small, 8 + len(small))
        for form in "<>"
    ]
    wide = [pixels(form, packed, 16, tiles=side, compression=DEFLATE) for form in "<>" for side in (20_000, 45_056)]
    strips: list[Tag] = [one for one in read(pixels("<", small, 16)) if one.number not in (STRIPS, COUNTS, ROWS)]
    strips += [tag("<", number, LONG, *[value] * 200_000) for number, value in ((STRIPS, 8), (COUNTS, 16))]
    return [*wide, *loops, file("<", [*strips, tag("<", ROWS, LONG, 1)], small)]

"""Damaged and hostile variants of files, each from a seed alone: of their bytes, and of the parts they are made of."""

import random
import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from checks.image_builders import put

# Lengths, offsets and counts at the edges of their types.
NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
LONGEST = 64  # bytes that one change inserts, removes or repeats, but for splices and cuts
MOST_CHANGES = 6
MAX_BYTES = 1 << 20  # of a variant, so that inserting does not grow without end
LARGEST_BYTES = 4 << 20  # of one whose structure was changed, which may hold a part thousands of times
REPEATS = 1, 2, 9, 100, 3000, 70_000

# Changes what a file says and leaves lengths, offsets and checksums right.
Structural = Callable[[bytes, Sequence[bytes], random.Random], bytes]


def variant(seeds: Sequence[bytes], rng: random.Random, structural: Structural | None = None) -> bytes:
    """Returns one of the seeds after one to six random changes."""
    # Most are changed by `structural` alone: a single wrong byte would keep the rest from being looked at.
    content, kind = rng.choice(seeds), rng.random()
    if structural and kind < 0.8:
        for _ in range(rng.randint(1, MOST_CHANGES // 2)):
            content = structural(content, seeds, rng)[:LARGEST_BYTES]
        if kind < 0.6:
            return content
    for _ in range(rng.randint(1, MOST_CHANGES)):
        content = damage(content, seeds, rng)
    return content[:MAX_BYTES]


def _number(rng: random.Random) -> bytes:
    """Returns a number at the edge of a type, or any short one, in any width and order of bytes."""
    width = rng.choice((1, 2, 4, 8))
    number = rng.choice((*NUMBERS, rng.randrange(1 << 16))) & (1 << 8 * width) - 1
    return number.to_bytes(width, rng.choice(("little", "big")))


def damage(content: bytes, seeds: Sequence[bytes], rng: random.Random) -> bytes:
    """Changes some bytes; half of the changes are near an end, where files keep what the rest depends on."""
    size, near = len(content), min(len(content), 64)
    start = rng.choice((rng.randint(0, size), rng.randint(0, size), rng.randint(0, near), size - rng.randint(0, near)))
    length, other = rng.randint(1, LONGEST), rng.choice(seeds)
    flipped = bytes(byte ^ 1 << rng.randrange(8) for byte in content[start : start + 1])
    some, number = rng.randbytes(rng.randint(1, 4)), _number(rng)
    changes = (
        *[(start + len(new), new) for new in (flipped, some, number)] * 2,
        (start, rng.randbytes(length)),
        (start, content[start : start + length] * rng.randint(1, 9)),
        (start + length, b""),
        (size, b""),
        (size, other[rng.randint(0, len(other)) :]),
    )
    end, new = rng.choice(changes)
    return content[:start] + new + content[end:]


class Part(NamedTuple):
    """A part of a file, as a segment of JPEG: its type, empty for bytes without one, and its data."""

    kind: bytes
    data: bytes


Change = Callable[[list[Part], random.Random], None]


def field(
    kinds: Sequence[bytes], form: str, offsets: Sequence[int], values: Sequence[int | tuple[int, ...] | bytes]
) -> Change:
    """Returns a change of numbers, as `struct` writes them, or of all bytes, from an offset of some parts on."""

    def change(parts: list[Part], rng: random.Random) -> None:
        places = [index for index, part in enumerate(parts) if part.kind in kinds]
        if not places:
            return
        at, offset, value = rng.choice(places), rng.choice(offsets), rng.choice(values)
        kind, data = parts[at]
        if isinstance(value, bytes):
            parts[at] = Part(kind, data[:offset] + value)
        else:
            numbers = value if isinstance(value, tuple) else (value,)
            parts[at] = Part(kind, put(data, offset, struct.pack(form, *numbers)))

    return change


def insert(parts: list[Part], some: Sequence[Part], rng: random.Random, times: int = 1) -> None:
    """Inserts parts anywhere, so often as the largest variant has room for."""
    at, size = rng.randint(0, len(parts)), sum(len(part.data) + 16 for part in some)
    parts[at:at] = [*some] * min(times, LARGEST_BYTES // size)


def change_any(parts: list[Part], rng: random.Random) -> None:
    """Repeats, removes, moves, resizes, splits, renames or damages a part, or adds bytes at the end."""
    at, way, step = rng.randrange(len(parts)), rng.randrange(11), rng.choice((1, 7))
    kind, data = parts[at]
    if way < 2:
        insert(parts, parts[at : at + rng.choice((1, 1, 2))], rng, rng.choice(REPEATS))
    elif way == 2:  # its data in many parts of its type, empty ones among them
        pieces = [Part(kind, data[start : start + step]) for start in range(0, min(len(data), 1 << 16), step)]
        parts[at : at + 1] = [*pieces, *[Part(kind, b"")] * rng.choice(REPEATS)]
    elif way == 3:
        insert(parts, [parts.pop(at)], rng)
    elif way == 4:
        parts.append(Part(b"", rng.randbytes(rng.randint(1, 99))))
    elif way == 5:
        del parts[at]
    elif way == 6:
        size = rng.choice((0, 1, rng.randint(0, len(data)), len(data) + rng.randint(1, 9), 60_000))
        parts[at] = Part(kind, data[:size].ljust(size, b"\0"))
    elif way == 7:
        parts[at] = Part(rng.choice(parts).kind, data)
    else:
        parts[at] = Part(kind, put(data, rng.randint(0, min(len(data), 64)), _number(rng)))

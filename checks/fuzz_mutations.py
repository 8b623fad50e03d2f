"""Damaged and hostile variants of files, each from a seed alone: of their bytes, and of the parts they are made of."""

import itertools
import random
from collections.abc import Callable, Iterable, Sequence

from checks.image_builders import put

# Lengths, offsets and counts at the edges of their types.
NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
MAX_BYTES = 1 << 20  # of a variant, so that inserting does not grow without end
LARGEST_BYTES = 4 << 20  # of one whose structure was changed, which may hold a part thousands of times
REPEATS = 1, 2, 9, 100, 3000, 70_000

Part = tuple[bytes, bytes]  # of a file, as a segment of JPEG: its type, empty for bytes without one, and its data
# Changes what a file says and leaves lengths, offsets and checksums right.
Structural = Callable[[bytes, Sequence[bytes], random.Random], bytes]


def variant(seeds: Sequence[bytes], rng: random.Random, structural: Structural | None = None) -> bytes:
    """Returns one of the seeds after one to six random changes."""
    # Most are changed by `structural` alone: a single wrong byte would keep the rest from being looked at.
    content, kind = rng.choice(seeds), rng.random()
    if structural and kind < 0.8:
        for _ in range(rng.randint(1, 3)):
            content = structural(content, seeds, rng)[:LARGEST_BYTES]
        if kind < 0.6:
            return content
    for _ in range(rng.randint(1, 6)):
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
    length, other = rng.randint(1, 64), rng.choice(seeds)
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


def insert(parts: list[Part], some: Sequence[Part], rng: random.Random, times: int = 1) -> None:
    """Inserts parts anywhere, so often as the largest variant has room for."""
    at, size = rng.randint(0, len(parts)), sum(len(data) + 16 for _, data in some)
    parts[at:at] = [*some] * min(times, LARGEST_BYTES // size)


def change_any(parts: list[Part], rng: random.Random) -> None:
    """Repeats, moves, removes, splits, resizes, renames or damages a part, or adds bytes at the end."""
    at, way, step, times = rng.randrange(len(parts)), rng.randrange(11), rng.choice((1, 7)), rng.choice(REPEATS)
    kind, data = parts[at]
    size = rng.choice((0, 1, rng.randint(0, len(data)), len(data) + rng.randint(1, 9), 60_000))
    pieces = ((kind, data[start : start + step]) for start in range(0, min(len(data), 1 << 16), step))
    changed: list[Iterable[Part]] = [
        [],
        itertools.chain(pieces, itertools.repeat((kind, b""), times)),
        [(kind, data[:size].ljust(size, b"\0"))],
        [(rng.choice(parts)[0], data)],
        *[[(kind, put(data, rng.randint(0, min(len(data), 64)), _number(rng)))]] * 3,
    ]
    if way < len(changed):
        parts[at : at + 1] = changed[way]
    elif way == 7:
        insert(parts, [parts.pop(at)], rng)
    elif way == 8:
        parts.append((b"", rng.randbytes(rng.randint(1, 99))))
    else:
        insert(parts, parts[at : at + rng.choice((1, 1, 2))], rng, times)

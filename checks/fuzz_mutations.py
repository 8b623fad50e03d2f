"""Damaged and hostile variants of valid files, each from a seed alone."""

import random
import struct
from collections.abc import Callable, Sequence

# Lengths, offsets and counts at the edges of their types.
NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)
WIDTHS = {1: "B", 2: "H", 4: "I", 8: "Q"}
LONGEST = 64  # bytes that one change inserts, removes or repeats, but for splices and cuts
MOST_CHANGES = 6
MAX_BYTES = 1 << 20  # of a variant, so that inserting does not grow without end
LARGEST_BYTES = 4 << 20  # of one whose structure was changed, which may hold a part thousands of times

# Changes what a file says and leaves lengths, offsets and checksums right.
Structural = Callable[[bytes, Sequence[bytes], random.Random], bytes]


def variant(seeds: Sequence[bytes], rng: random.Random, structural: Structural | None = None) -> bytes:
    """Returns one of the seeds after one to six random changes.

    Args:
      seeds: files.
      rng: makes all choices.
      structural: changes the structure of such files. Most variants are then changed by it alone, for a single wrong
        byte would keep the rest from being looked at; some by it and then in their bytes.
    """
    content, kind = rng.choice(seeds), rng.random()
    if structural and kind < 0.8:
        for _ in range(rng.randint(1, MOST_CHANGES // 2)):
            content = structural(content, seeds, rng)[:LARGEST_BYTES]
        if kind < 0.6:
            return content
    damaged = bytearray(content)
    for _ in range(rng.randint(1, MOST_CHANGES)):
        _damage(damaged, seeds, rng)
    return bytes(damaged[:MAX_BYTES])


def _damage(content: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    """Changes some bytes; half of the changes are near an end, where files keep what the rest depends on."""
    size, near = len(content), min(len(content), 64)
    start = rng.choice((rng.randint(0, size), rng.randint(0, size), rng.randint(0, near), size - rng.randint(0, near)))
    length, width, other = rng.randint(1, LONGEST), rng.choice(tuple(WIDTHS)), rng.choice(seeds)
    flipped = bytes(byte ^ 1 << rng.randrange(8) for byte in content[start : start + 1])
    some = rng.randbytes(rng.randint(1, 4))
    number = struct.pack(rng.choice("<>") + WIDTHS[width], rng.choice(NUMBERS) & (1 << 8 * width) - 1)
    changes = (
        *[(start + 1, flipped)] * 2,
        *[(start + len(some), some)] * 2,
        *[(start + width, number)] * 2,
        (start, rng.randbytes(length)),
        (start, bytes(content[start : start + length]) * rng.randint(1, 9)),
        (start + length, b""),
        (size, b""),
        (size, other[rng.randint(0, len(other)) :]),
    )
    end, new = rng.choice(changes)
    content[start:end] = new

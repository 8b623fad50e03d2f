"""Files that are a run of parts, such as JPEG's segments or PNG's chunks, and what can be done to any of them."""

import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from checks.fuzz_mutations import LARGEST_BYTES, NUMBERS, WIDTHS

REPEATS = 1, 2, 9, 100, 3000, 70_000


@dataclass(frozen=True)
class Part:
    """A part of a file.

    Attributes:
      kind: its type; empty for bytes that stand without one.
      data: what it holds, without its length and checksum.
    """

    kind: bytes
    data: bytes


@dataclass(frozen=True)
class Parts:
    """A kind of file that is a run of parts.

    Attributes:
      starts: whether some bytes are such a file, by how they begin.
      split: parts of it; all of its bytes are in them.
      join: the file again, with right lengths and checksums.
      changes: of this kind alone; each is given the parts, to change them in place.
    """

    starts: Callable[[bytes], bool]
    split: Callable[[bytes], list[Part]]
    join: Callable[[Sequence[Part]], bytes]
    changes: Sequence[Callable[[list[Part], random.Random], None]]

    def change(self, content: bytes, seeds: Sequence[bytes], rng: random.Random) -> bytes:
        """Returns a file whose parts are changed once."""
        parts = self.split(content)
        if self.changes and rng.random() < 0.6:
            rng.choice(self.changes)(parts, rng)
        elif rng.random() < 0.2:
            other = rng.choice(seeds)
            if self.starts(other):
                insert(parts, rng.choice(self.split(other) or [Part(b"", b"")]), rng)
        elif parts:
            rng.choice(ANY)(parts, rng)
        return self.join(parts)


def find(parts: Sequence[Part], *kinds: bytes) -> int | None:
    """Returns the index of the first part of one of these kinds, or None."""
    return next((index for index, part in enumerate(parts) if part.kind in kinds), None)


def put(data: bytes, offset: int, form: str, *numbers: int) -> bytes:
    """Returns the data with numbers in place of what stood at an offset, as far as it is that long."""
    packed = struct.pack(form, *numbers)
    return data if offset + len(packed) > len(data) else data[:offset] + packed + data[offset + len(packed) :]


def edit(parts: list[Part], kinds: Sequence[bytes], change: Callable[[bytes], bytes]) -> None:
    """Changes the data of the first part of one of these kinds, where there is one."""
    if (index := find(parts, *kinds)) is not None:
        parts[index] = replace(parts[index], data=change(parts[index].data))


def insert(parts: list[Part], part: Part, rng: random.Random, times: int = 1) -> None:
    """Inserts a part anywhere, so often as the largest variant has room for."""
    at = rng.randint(0, len(parts))
    parts[at:at] = [part] * min(times, LARGEST_BYTES // (len(part.data) + 16))


def _repeat(parts: list[Part], rng: random.Random) -> None:
    insert(parts, rng.choice(parts), rng, rng.choice(REPEATS))


def _remove(parts: list[Part], rng: random.Random) -> None:
    del parts[rng.randrange(len(parts))]


def _swap(parts: list[Part], rng: random.Random) -> None:
    one, other = rng.randrange(len(parts)), rng.randrange(len(parts))
    parts[one], parts[other] = parts[other], parts[one]


def _resize(parts: list[Part], rng: random.Random) -> None:
    at = rng.randrange(len(parts))
    data = parts[at].data
    size = rng.choice((0, 1, rng.randint(0, len(data)), len(data) + rng.randint(1, 9), 60_000))
    parts[at] = replace(parts[at], data=data[:size] + bytes(max(size - len(data), 0)))


def _number(parts: list[Part], rng: random.Random) -> None:
    at, width = rng.randrange(len(parts)), rng.choice(tuple(WIDTHS))
    data = parts[at].data
    number = rng.choice((*NUMBERS, rng.randrange(1 << 16))) & (1 << 8 * width) - 1
    place = rng.randint(0, min(len(data), 64))
    parts[at] = replace(parts[at], data=put(data, place, rng.choice("<>") + WIDTHS[width], number))


def _rename(parts: list[Part], rng: random.Random) -> None:
    at = rng.randrange(len(parts))
    parts[at] = replace(parts[at], kind=rng.choice(parts).kind)


def _tail(parts: list[Part], rng: random.Random) -> None:
    parts.append(Part(b"", rng.randbytes(rng.randint(1, 99))))


ANY = _repeat, _repeat, _remove, _swap, _resize, _number, _number, _number, _rename, _tail

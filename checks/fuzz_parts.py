"""Files as runs of parts, such as JPEG's segments or PNG's chunks; lengths and checksums are right after any change."""

import random
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from checks.fuzz_mutations import LARGEST_BYTES, NUMBERS, WIDTHS

REPEATS = 1, 2, 9, 100, 3000, 70_000


@dataclass(frozen=True)
class Part:
    """A part of a file: its type, empty for bytes that stand without one, and its data without length and checksum."""

    kind: bytes
    data: bytes


class Layout(Protocol):
    """How a file is split into parts, all of its bytes among them, and joined again."""

    def split(self, content: bytes) -> list[Part]: ...

    def join(self, parts: Sequence[Part]) -> bytes: ...


@dataclass(frozen=True)
class Tagged:
    """Parts that begin with a type and a length.

    Attributes:
      head: type and length in either order, as `struct` writes them.
      before: bytes before the first part.
      counted: bytes that a length counts beside the data.
      checksum: whether a CRC-32 of type and data follows.
      even: whether parts begin at even offsets.
      total: whether bytes 4 to 8 of the file hold the length of the rest.
      alone: types that have no length.
      coded: types that data without a length follow, up to the next type.
      last: types from which on the rest is one part.
    """

    head: str
    before: int = 0
    counted: int = 0
    checksum: bool = False
    even: bool = False
    total: bool = False
    alone: frozenset[bytes] = frozenset()
    coded: bytes | None = None
    last: tuple[bytes, ...] = ()

    def split(self, content: bytes) -> list[Part]:
        """Returns the parts; what is no whole part is one without a type, to the end."""
        parts, at = [Part(b"", content[: self.before])] if self.before else [], self.before
        size = struct.calcsize(self.head)
        while at < len(content) and not content.startswith(self.last, at):
            if content[at : at + 2] in self.alone:
                parts.append(Part(content[at : at + 2], b""))
                at += 2
                continue
            if at + size > len(content):
                break
            one, other = struct.unpack_from(self.head, content, at)
            kind, length = (one, other) if isinstance(one, bytes) else (other, one)
            start, end = at + size, at + size + length - self.counted
            after = end + 4 * self.checksum + (length % 2 if self.even else 0)
            if not start <= end <= after <= len(content):
                break
            parts.append(Part(kind, content[start:end]))
            at = after
            if kind == self.coded:
                at = _coded_end(content, after)
                parts.append(Part(b"", content[after:at]))
        return [*parts, Part(b"", content[at:])] if at < len(content) else parts

    def join(self, parts: Sequence[Part]) -> bytes:
        """Returns the file."""
        content = b"".join(self._written(part) if part.kind else part.data for part in parts)
        return put(content, 4, "<I", len(content) - 8) if self.total else content

    def _written(self, part: Part) -> bytes:
        if part.kind in self.alone:
            return part.kind
        data = part.data[: 0xFFFF - self.counted] if self.head.endswith("H") else part.data
        length = len(data) + self.counted
        first, second = (length, part.kind) if self.head.endswith("s") else (part.kind, length)
        checksum = struct.pack(">I", zlib.crc32(part.kind + data)) if self.checksum else b""
        return struct.pack(self.head, first, second) + data + checksum + bytes(length % 2 if self.even else 0)


def _coded_end(content: bytes, at: int) -> int:
    """Returns where the next marker of a JPEG stands that isn't a part of coded data."""
    while (at := content.find(b"\xff", at)) >= 0:
        if content[at + 1 : at + 2] and content[at + 1] not in (0, *range(0xD0, 0xD8)):
            return at
        at += 2
    return len(content)


class Head:
    """A file with a head of fixed places: parts "head" and "rest"."""

    def __init__(self, size: int):
        self._size = size

    def split(self, content: bytes) -> list[Part]:
        """Returns both."""
        return [Part(b"head", content[: self._size]), Part(b"rest", content[self._size :])]

    def join(self, parts: Sequence[Part]) -> bytes:
        """Returns the file."""
        return b"".join(part.data for part in parts)


@dataclass(frozen=True)
class Field:
    """What stands at a place of some types of parts.

    Attributes:
      kinds: the types.
      offset: bytes from the start of the data.
      form: as of `struct`; empty where a value is all bytes from the offset on.
      values: what it is set to: a number, several, bytes, or what makes these.
    """

    kinds: tuple[bytes, ...]
    offset: int
    form: str
    values: Sequence[int | bytes | tuple[int, ...] | Callable[[], bytes]]

    def change(self, parts: list[Part], rng: random.Random) -> None:
        """Sets it in one of the parts, where there is one."""
        places = [index for index, part in enumerate(parts) if part.kind in self.kinds]
        if not places:
            return
        at, value = rng.choice(places), rng.choice(self.values)
        data, value = parts[at].data, value() if callable(value) else value
        if not self.form:
            assert isinstance(value, bytes)
            data = data[: self.offset] + value
        else:
            data = put(data, self.offset, self.form, *(value if isinstance(value, tuple) else (value,)))
        parts[at] = replace(parts[at], data=data)


def put(data: bytes, offset: int, form: str, *values: int | bytes) -> bytes:
    """Returns the data with values in place of what stood at an offset, as far as it is that long."""
    packed = struct.pack(form, *values)
    return data if offset + len(packed) > len(data) else data[:offset] + packed + data[offset + len(packed) :]


def insert(parts: list[Part], some: Sequence[Part], times: int, rng: random.Random) -> None:
    """Inserts parts anywhere, so often as the largest variant has room for."""
    at, size = rng.randint(0, len(parts)), sum(len(part.data) + 16 for part in some)
    parts[at:at] = [*some] * min(times, LARGEST_BYTES // size)


def change_any(parts: list[Part], rng: random.Random) -> None:
    """Repeats, removes, moves, resizes, splits, renames or damages a part, or adds bytes at the end."""
    at, width, step = rng.randrange(len(parts)), rng.choice(tuple(WIDTHS)), rng.choice((1, 7))
    part, after, data = parts[at], parts[at + 1 : at + 2], parts[at].data
    size = rng.choice((0, 1, rng.randint(0, len(data)), len(data) + rng.randint(1, 9), 60_000))
    place = rng.randint(0, min(len(data), 64))
    number = rng.choice((*NUMBERS, rng.randrange(1 << 16))) & (1 << 8 * width) - 1
    numbered = replace(part, data=put(data, place, rng.choice("<>") + WIDTHS[width], number))
    way = rng.randrange(11)
    if way < 2:
        insert(parts, [part, *after][: rng.choice((1, 1, 2))], rng.choice(REPEATS), rng)
    elif way == 2:  # its data in many parts of its type, empty ones among them
        pieces = [replace(part, data=data[start : start + step]) for start in range(0, min(len(data), 1 << 16), step)]
        parts[at : at + 1] = [*pieces, *[replace(part, data=b"")] * rng.choice(REPEATS)]
    elif way == 3:
        del parts[at]
        parts.insert(rng.randint(0, len(parts)), part)
    elif way == 4:
        parts.append(Part(b"", rng.randbytes(rng.randint(1, 99))))
    else:
        resized = replace(part, data=data[:size].ljust(size, b"\0"))
        renamed = replace(part, kind=rng.choice(parts).kind)
        parts[at : at + 1] = rng.choice(([], [resized], [renamed], *[[numbered]] * 3))

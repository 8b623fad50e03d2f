"""Files that hold other files: what the outer head says need not be true of what is within."""

import random
import struct
from collections.abc import Sequence

from checks.fuzz_mutations import LARGEST_BYTES
from checks.fuzz_structures import boxes, icons, jpeg, tiff
from checks.fuzz_structures.chunks import PNG, with_chunk
from checks.fuzz_structures.parts import Part

IPTC_PIECE = 0x7FFF
JPEG_IN_TIFF = 7
ICNS_KINDS = b"ic07", b"ic10", b"ic13"


def _field(record: int, number: int, data: bytes) -> bytes:
    return struct.pack(">BBBH", 0x1C, record, number, len(data)) + data


def iptc(content: bytes, side: int = 16) -> bytes:
    """Wraps a file of any kind as the grey image of an IPTC record, whose head says how large it is."""
    sides = _field(3, 20, side.to_bytes(2, "big")) + _field(3, 30, side.to_bytes(2, "big"))
    head = _field(3, 60, bytes([1, 0])) + _field(3, 65, bytes([1])) + sides + _field(3, 120, bytes([5]))
    pieces = range(0, len(content), IPTC_PIECE)
    return head + b"".join(_field(8, 10, content[at : at + IPTC_PIECE]) for at in pieces) + _field(9, 10, b"")


def tiff_of_jpeg(content: bytes, side: int = 16, form: str = "<") -> bytes:
    """Wraps a JPEG as the one strip of a TIFF of any side."""
    return tiff.pixels(form, content, side, compression=JPEG_IN_TIFF)


def mpo(first: bytes, others: Sequence[bytes], count: int | None = None) -> bytes:
    """Returns a JPEG that says that further images, or `count` of them, follow its end."""
    number = 1 + len(others) if count is None else count
    # 16 bytes an entry: attributes, size, place and two dependent ones; the places do not matter here.
    entries = b"".join(struct.pack("<IIIHH", 0x030000, len(one), len(first), 0, 0) for one in (first, *others))
    entries += bytes(16 * min(max(number - 1 - len(others), 0), 4000))
    tags = [tiff.Tag(0xB000, 7, 4, b"0100"), tiff.tag("<", 0xB001, tiff.LONG, number)]
    tags.append(tiff.Tag(0xB002, 7, len(entries), entries))
    head = b"MPF\0" + tiff.file("<", tags)
    return first[:2] + jpeg.segment(b"\xff\xe2", head) + first[2:] + b"".join(others)


def exif(content: bytes, form: str = ">", orientation: int = 6) -> bytes:
    """Returns EXIF with an image of its own, as cameras write a small one."""
    tags = [tiff.tag(form, tiff.ORIENTATION, tiff.SHORT, orientation)]
    start = 8 + len(tiff.directory(tags, 8, form))
    place = start + 2 + 2 * 12 + 4
    thumbnail = [tiff.tag(form, 513, tiff.LONG, place), tiff.tag(form, 514, tiff.LONG, len(content))]
    head = (b"II*\0" if form == "<" else b"MM\0*") + struct.pack(form + "I", 8)
    return head + tiff.directory(tags, 8, form, start) + tiff.directory(thumbnail, start, form) + content


def icns(content: bytes) -> bytes:
    """Wraps a PNG or JPEG 2000 as an icon of another system."""
    body = b"".join(kind + struct.pack(">I", len(content) + 8) + content for kind in ICNS_KINDS)
    return b"icns" + struct.pack(">I", len(body) + 8) + body


def wrap(content: bytes, seeds: Sequence[bytes], rng: random.Random) -> bytes:
    """Returns the file within another one, of whatever kind both are."""
    content = content[: LARGEST_BYTES // 4]
    other = rng.choice(seeds)[: LARGEST_BYTES // 4]
    holders = (
        lambda: iptc(content, rng.choice((1, 16, 60_000))),
        lambda: icons.ico([content]),
        lambda: icons.ico([other, content]),
        lambda: icons.same_ico(content, rng.choice((2, 255, 5000))),
        lambda: tiff_of_jpeg(content, rng.choice(tiff.SIDES), rng.choice("<>")),
        lambda: _beside(content, other, rng),
        lambda: boxes.jp2(content),
        lambda: icns(content),
    )
    return rng.choice(holders)()


def _beside(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Another file beside the image: in its metadata, or after its end."""
    if content.startswith(jpeg.START):
        if rng.random() < 0.5:
            return mpo(content, [other] * rng.choice((1, 1, 9)), rng.choice((None, None, 0, 2**32 - 1, 4000)))
        return jpeg.with_metadata(content, b"\xff\xe1", b"Exif\0\0" + exif(other), rng.choice((1, 1, 40)))
    if content.startswith(PNG):
        return with_chunk(content, Part(b"eXIf", exif(other)))
    return content + other

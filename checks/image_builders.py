"""Image files made by hand, byte by byte, whose heads may say what is not true.

Then they are small and ask for far more than their size says. Open them only where `normalise` guards, or under limits
of memory and CPU time.
"""

import io
import struct
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
Entry = tuple[int, int | tuple[int, int, int]]  # of a TIFF's directory: tag, number or (type, count, value or place)
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n0 0 9 9 rectfill\nshowpage\n"


def photo() -> Image.Image:
    """Returns a small image that is smooth and differs in all corners and channels."""
    y, x = np.mgrid[0:40, 0:56]
    return Image.fromarray(np.stack([x * 4, y * 6, (x + y) * 2], axis=-1).astype(np.uint8))


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Returns the file that Pillow writes."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


JPEG, PNG = encode(photo(), "JPEG"), encode(photo(), "PNG")


def put(data: bytes, offset: int, new: bytes) -> bytes:
    """Returns the data with other bytes at an offset, as far as it is that long."""
    end = offset + len(new)
    return data if end > len(data) else data[:offset] + new + data[end:]


def with_parts(content: bytes, parts: bytes) -> bytes:
    """A JPEG with some bytes before its first segment, or a PNG with them after its head."""
    start = 33 if content.startswith(SIGNATURE) else 2
    return content[:start] + parts + content[start:]


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def iptc(content: bytes) -> bytes:
    """IPTC around any bytes, which Pillow's reader of it opens by whatever fits."""
    fields = [(3, 20, b"\0\x09"), (3, 30, b"\0\x09"), (3, 60, b"\1\0"), (3, 65, b"\1"), (3, 120, b"\5")]
    fields += [(8, 10, content[at : at + 0x7FFF]) for at in range(0, len(content), 0x7FFF)] + [(9, 10, b"")]
    return b"".join(struct.pack(">BBBH", 28, *numbers, len(data)) + data for *numbers, data in fields)


def segment(marker: int, data: bytes) -> bytes:
    """A segment of a JPEG, or of a JPEG 2000."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def scans(side: int, count: int, between: bytes = b"") -> bytes:
    """A progressive grey JPEG whose scans, but for the first, are one code each: an end of band over all blocks."""
    blocks = (-(-side // 8)) ** 2
    # 0 ends the band of a block, 10 that of 16,384 and as many more as the next 14 bits say.
    runs = ("10" + "1" * 14) * (-(-blocks // 32_767))
    band = int(runs, 2).to_bytes(len(runs) // 8).replace(b"\xff", b"\xff\0")
    tables = segment(0xDB, bytes([0] + [9] * 64))
    tables += segment(0xC4, bytes([0, 1, *[0] * 15, 0]) + bytes([16, 1, 1, *[0] * 14, 0, 0xE0]))
    frame = segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + bytes([1, 17, 0]))
    first = segment(0xDA, bytes([1, 1, 0, 0, 0, 0])) + bytes(-(-blocks // 8))
    others = (between + segment(0xDA, bytes([1, 1, 0, 1, 63, 0])) + band) * count
    return b"\xff\xd8" + tables + frame + first + others + b"\xff\xd9"


def directory(
    fields: Iterable[Entry], order: str = "<", big: bool = False, following: int = 0, places: bytes = b""
) -> bytes:
    """A TIFF of one directory; `places` stand from byte 8, or 16 in BigTIFF."""
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    start = (16 if big else 8) + len(places)
    head += struct.pack(order + ("HHQ" if big else "I"), *((8, 0, start) if big else (start,)))
    values = ((tag, *((4, 1, value) if isinstance(value, int) else value)) for tag, value in fields)
    rows = [struct.pack(order + ("HHQQ" if big else "HHII"), *row) for row in values]
    end = struct.pack(order + ("Q" if big else "I"), following)
    return head + places + struct.pack(order + ("Q" if big else "H"), len(rows)) + b"".join(rows) + end


def tiff(width: int, height: int, *more: Entry, compression: int = 1, **options: Any) -> bytes:
    """A grey TIFF with its size, and with some more fields."""
    fields = (256, width), (257, height), (258, 8), (259, compression), (262, 1)
    return directory([*fields, *more], **options)


def tiff_jpeg(content: bytes, width: int, height: int) -> bytes:
    """A TIFF of one strip that is a JPEG."""
    fields = (273, 8), (277, 1), (278, height), (279, len(content))
    return tiff(width, height, *fields, compression=7, places=content)


def jpeg2000(
    side: int, tile: int = 0, precinct: int = 15, block: int = 4, layers: int = 1, components: int = 1, where: str = ""
) -> bytes:
    """A JPEG 2000 with heads and no data; `precinct`: log2 of its side, `block`: that less 2, `tile` 0: as the image.

    `where` precincts are set: "" in the main head, "tile" in that of a tile, "component" in one of these (COC), or
    "skipped" behind a marker nobody knows.
    """
    # Halved five times.
    size = struct.pack(">HIIIIIIIIH", 0, side, side, 0, 0, tile or side, tile or side, 0, 0, components)
    body, order = bytes([5, block, block, 0, 1]), struct.pack(">BHB", 0, layers, 0)
    precincts = bytes([precinct * 17] * 6)
    own, plain = segment(0x52, b"\1" + order + body + precincts), segment(0x52, b"\0" + order + body)
    styles = {
        "": own,
        "tile": plain,
        "component": plain + segment(0x53, b"\0\1" + body + precincts),
        "skipped": plain + b"\xff\x6f" + own,  # of a marker that it doesn't know, OpenJPEG skips two bytes
    }
    code = b"\xff\x4f" + segment(0x51, size + bytes([7, 1, 1]) * components) + styles[where]
    code += segment(0x5C, bytes([0x20 | 2] + [0x40] * 16))
    part = own if where == "tile" else b""
    return code + segment(0x90, struct.pack(">HIBB", 0, 14 + len(part) + 1, 0, 1)) + part + b"\xff\x93\0\xff\xd9"


def jp2(code: bytes, side: int = 16) -> bytes:
    """A JPEG 2000 file around a codestream, with the size that its head says."""
    whole = encode(Image.new("L", (side, side)), "JPEG2000")
    return whole[: whole.index(b"jp2c") - 4] + struct.pack(">I", len(code) + 8) + b"jp2c" + code


def icon(content: bytes, times: int = 1) -> bytes:
    """An icon that has the same image so many times, in the same bytes: as 16 x 16 px, and as other sizes."""
    where = len(content), 6 + 16 * times
    entries = (struct.pack("<BBBBHHII", (16 + n) % 256, 16, 0, 0, 1, 32, *where) for n in range(times))
    return struct.pack("<HHH", 0, 1, times) + b"".join(entries) + content


def bitmap(width: int, height: int, bits: int = 24, compression: int = 0, data: bytes = b"") -> bytes:
    """A BMP without its file's head, as icons have it."""
    return struct.pack("<IiiHHIIIIII", 40, width, height, 1, bits, compression, len(data), 0, 0, 0, 0) + data


def gif(width: int, height: int, blocks: bytes = b"") -> bytes:
    """A GIF with its size, and with some blocks before its image."""
    plain = encode(photo().quantize(8), "GIF")
    start = 13 + (3 << (plain[10] & 7) + 1)
    return plain[:6] + struct.pack("<HH", width, height) + plain[10:start] + blocks + plain[start:]


def avif(side: int) -> bytes:
    """An AVIF of few pixels that says it has others."""
    content = encode(photo(), "AVIF")
    return put(content, content.index(b"ispe") + 8, struct.pack(">II", side, side))


def large_png(side: int) -> bytes:
    """A PNG of a square of black, whole: all its pixels are there."""
    return encode(Image.new("1", (side, side)), "PNG")

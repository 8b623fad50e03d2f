"""Image files made by hand, byte by byte, whose heads may say what is not true; `FILES` are hostile ones.

Those are small and ask for far more than their size says, but are harmless where they lie. Open them only where
`normalise` guards, or under limits of memory and CPU time.
"""

import io
import struct
import zlib
from collections.abc import Callable, Iterable
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


def tiled_tiff(side: int, **options: Any) -> bytes:
    """A TIFF of 9 x 9 px in one tile of another size."""
    return tiff(9, 9, (322, side), (323, side), (324, 0), (325, 81), **options)


def strips(count: int, height: int = 2) -> bytes:
    """A TIFF that lists strips which lie a byte apart, whose rows Pillow then reads byte by byte."""
    places = struct.pack(f"<{count}I", *range(count))
    return tiff(999, height, (278, 1), (273, (4, count, 8)), (279, (4, count, 8)), places=places)


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


def run_lengths(side: int) -> bytes:
    """A BMP of rows that end after their first pixel, which Pillow fills a pixel at a time."""
    colours = bytes(range(4)) * 256
    body = bitmap(side, side, 8, 1, colours + b"\1\0\0\0" * side)
    return b"BM" + struct.pack("<III", 14 + len(body), 0, 14 + 40 + len(colours)) + body


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


OVER = 11_000  # px; its square is over the limit
SIDES, PACKED = struct.pack("<HH", OVER, OVER), struct.pack("<I", (OVER - 1) * (1 | 1 << 14))
EXIF = segment(0xE1, b"Exif\0\0z")
MANY_CHUNKS = chunk(b"tEXt", b"") * 101_000
PROFILE = chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(1 << 20), 9))  # of zeros
CHUNKS, PRECINCTS = "more than 100,000 chunks: 100,001", "more than 100,000 precincts a tile"
SEGMENTS, TILES = "more than 64 segments", "more than 100,000 strips or tiles: 998,001"
VALUES = "more than 10,000 values of TIFF's field 282: 100,000"
MEGAPIXELS, ROW = "more than 100 megapixels", "more than 65,535 pixels in a row: 65,536"
STRIPS = "more than 2 strips or tiles that its size asks for: 99,000"
TILE = "more than 16,777,216 pixels a tile"

# Name -> (what makes the file, how the reason begins or what it holds).
FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "PostScript in IPTC": (lambda: iptc(POSTSCRIPT), "not an image"),
    "image in IPTC": (lambda: iptc(PNG), "not an image"),
    "JPEG of too many scans": (lambda: scans(800, 101), "more than 100 scans: 101"),
    "JPEG of too many pixels in its scans": (lambda: scans(8000, 60), "more than 2,500,000,000 pixels in all scans"),
    "JPEG whose scans hide behind garbage": (lambda: scans(800, 101, b"garbage"), "more than 100 scans: 101"),
    "JPEG of EXIF in many segments": (lambda: with_parts(JPEG, EXIF * 5_000), "more than 64 segments of EXIF: 65"),
    "JPEG of many comments": (lambda: with_parts(JPEG, b"\xff\xfe\0\2" * 6_000), "more than 5,000 segments: 5,001"),
    "JPEG whose segments hide behind an end": (lambda: with_parts(JPEG, b"\xff\xd9" + EXIF * 99), SEGMENTS),
    "PNG of many chunks": (lambda: with_parts(PNG, MANY_CHUNKS), CHUNKS),
    "PNG of many colour profiles": (lambda: with_parts(PNG, PROFILE * 300), "more than 256 compressed chunks"),
    "TIFF of one huge tile": (lambda: tiled_tiff(50_000), f"{TILE}: 2,500,000,000"),
    "BigTIFF of one huge tile": (lambda: tiled_tiff(50_000, order="<", big=True), TILE),
    "big-endian TIFF of one huge tile": (lambda: tiled_tiff(50_000, order=">"), TILE),
    "TIFF of more strips than rows": (lambda: strips(99_000), STRIPS),
    "TIFF of tiles of a pixel": (lambda: tiff(999, 999, (322, 1), (323, 1), (324, 0), compression=5), TILES),
    "TIFF of rows that share their bytes": (lambda: strips(99, 99), "damaged: image file is truncated"),
    "TIFF of a field twice": (lambda: tiff(9, 9, (257, 9)), "damaged: TIFF's field 257 is there twice"),
    "TIFF of many fractions": (lambda: tiff(9, 9, (282, (5, 100_000, 8)), (273, 8), places=bytes(800_000)), VALUES),
    "TIFF that is too large": (lambda: tiff(OVER, OVER, (273, 0)), MEGAPIXELS),
    "JPEG 2000 of small precincts": (lambda: jpeg2000(2000, precinct=1), PRECINCTS),
    "JPEG 2000 of small precincts in boxes": (lambda: jp2(jpeg2000(2000, precinct=1), 2000), PRECINCTS),
    "JPEG 2000 of small precincts in a tile": (lambda: jpeg2000(2000, precinct=1, where="tile"), PRECINCTS),
    "JPEG 2000 of small precincts in a component": (lambda: jpeg2000(2000, precinct=1, where="component"), PRECINCTS),
    "JPEG 2000 whose precincts hide": (lambda: jpeg2000(2000, precinct=1, where="skipped"), PRECINCTS),
    "JPEG 2000 of small code-blocks": (lambda: jpeg2000(9000, block=0), "more than 500,000 code-blocks a tile"),
    "JPEG 2000 of many layers": (lambda: jpeg2000(4000, precinct=6, layers=65_535), "more than 10,000,000 packets"),
    "JPEG 2000 of many tiles": (lambda: jpeg2000(9000, tile=36), "more than 8,192 tiles: 62,500"),
    "JPEG 2000 of many components": (lambda: jpeg2000(9, components=16_384), "more than 4 components: 16,384"),
    "JPEG 2000 that is too large": (lambda: jpeg2000(OVER), MEGAPIXELS),
    "PNG of a long row": (lambda: encode(Image.new("L", (65_536, 1)), "PNG"), ROW),
    "TIFF of a long row": (lambda: encode(Image.new("L", (65_536, 1)), "TIFF"), ROW),
    "PPM of a long column": (lambda: b"P5 1 65536 255\n" + bytes(65_536), ROW),
    "GIF of a huge canvas": (lambda: gif(65_535, 65_535), MEGAPIXELS),
    "GIF of many blocks": (lambda: gif(56, 40, b"!\xfe" + b"\1x" * 200_000 + b"\0"), "more than 100,000 blocks"),
    "WebP of a huge canvas": (lambda: put(encode(photo(), "WEBP", exif=EXIF), 24, b"\x7f\x3e\0" * 2), MEGAPIXELS),
    "lossy WebP that is too large": (lambda: put(encode(photo(), "WEBP"), 26, SIDES), MEGAPIXELS),
    "lossless WebP that is too large": (lambda: put(encode(photo(), "WEBP", lossless=True), 21, PACKED), MEGAPIXELS),
    "AVIF that says it is too large": (lambda: avif(OVER), MEGAPIXELS),
    "icon that holds a large PNG": (lambda: icon(large_png(OVER)), MEGAPIXELS),
    "icon that holds a large bitmap": (lambda: icon(bitmap(OVER, 2 * OVER)), MEGAPIXELS),
    "icon that holds a PNG of many chunks": (lambda: icon(with_parts(PNG, MANY_CHUNKS)), CHUNKS),
    "run-length BMP of many pixels": (lambda: run_lengths(9000), "more than 6,000,000 values of run-length BMP"),
    "PPM of many comments": (lambda: b"P3 9 9 255\n" + b"#\n" * 500_000, "more than 1,000 comments: 500,000"),
    "PPM of a long head": (lambda: b"P6 #" + b"x" * 1_000_000, "more than 65,536 bytes in the head of a PPM"),
    "PPM that is text of many pixels": (lambda: b"P1 9000 9000\n" + b"1" * 99, "more than 6,000,000 values of"),
    "TGA that is too large": (lambda: put(encode(photo(), "TGA", compression="tga_rle"), 12, SIDES), MEGAPIXELS),
    "only a PNG's signature and many chunks": (lambda: SIGNATURE + MANY_CHUNKS, CHUNKS),
}

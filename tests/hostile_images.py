"""Small files that ask for far more than their size says: each made by hand, and harmless where it lies.

Open them only where `normalise` guards, or under limits of memory and CPU time.
"""

import struct
import zlib

from PIL import Image

from tests.photos import SIGNATURE, chunk, encode, photo

OVER = 11_000  # px; its square is over the limit
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n0 0 9 9 rectfill\nshowpage\n"


def iptc(content):
    """IPTC around any bytes, which Pillow's reader of it opens by whatever fits."""
    fields = [(3, 20, b"\0\x09"), (3, 30, b"\0\x09"), (3, 60, b"\1\0"), (3, 65, b"\1"), (3, 120, b"\5")]
    fields += [(8, 10, content), (9, 10, b"")]
    return b"".join(
        bytes([28, record, number]) + struct.pack(">H", len(data)) + data for record, number, data in fields
    )


def segment(marker, data):
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def scans(side, count, between=b""):
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


def jpeg_with(parts):
    """A JPEG with some bytes before its first segment."""
    plain = encode(photo(), "JPEG")
    return plain[:2] + parts + plain[2:]


def png_with(*chunks):
    plain = encode(photo(), "PNG")
    return plain[:33] + b"".join(chunks) + plain[33:]


def profiles(count):
    packed = zlib.compress(bytes(1 << 20), 9)
    return png_with(chunk(b"iCCP", b"x\0\0" + packed) * count)


def directory(fields, order="<", big=False, following=0, places=b""):
    """A TIFF of one directory: tag -> (type, count, value or place); `places` stand from byte 8, or 16 in BigTIFF."""
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    start = (16 if big else 8) + len(places)
    head += struct.pack(order + ("HHQ" if big else "I"), *((8, 0, start) if big else (start,)))
    rows = [struct.pack(order + ("HHQQ" if big else "HHII"), tag, *field) for tag, field in fields]
    end = struct.pack(order + ("Q" if big else "I"), following)
    return head + places + struct.pack(order + ("Q" if big else "H"), len(rows)) + b"".join(rows) + end


def tiff(width, height, *more, compression=1, **options):
    """A grey TIFF with its size, and with some more fields."""
    fields = {256: (4, 1, width), 257: (4, 1, height), 258: (4, 1, 8), 259: (4, 1, compression), 262: (4, 1, 1)}
    return directory([*fields.items(), *more], **options)


def tiled_tiff(side, **options):
    return tiff(9, 9, (322, (4, 1, side)), (323, (4, 1, side)), (324, (4, 1, 0)), (325, (4, 1, 81)), **options)


def strips(count, height=2):
    """A TIFF that lists strips which lie a byte apart, whose rows Pillow then reads byte by byte."""
    places = struct.pack(f"<{count}I", *range(count))
    return tiff(999, height, (278, (4, 1, 1)), (273, (4, count, 8)), (279, (4, count, 8)), places=places)


def tiff_jpeg(content, width, height):
    """A TIFF of one strip that is a JPEG."""
    fields = {256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, 8), 259: (3, 1, 7), 262: (3, 1, 1), 273: (4, 1, 8)}
    fields |= {277: (3, 1, 1), 278: (4, 1, height), 279: (4, 1, len(content))}
    return directory(list(fields.items()), places=content)


def jpeg2000(side, tile=0, precinct=None, block=4, levels=5, layers=1, components=1, boxed=False, style_in="main"):
    """A JPEG 2000 with heads and no data.

    Args:
      side: of the image, px.
      tile: its side, px; 0: as the image.
      precinct: base-2 logarithm of each one's side; None: the largest.
      block: base-2 logarithm of a code-block's side, less 2.
      levels, layers, components: how many.
      boxed: whether in the boxes of a JP2 file.
      style_in: "main" head, "tile" head, "component" (COC), or "skipped", behind a marker that readers don't know.
    """
    size = struct.pack(">HIIIIIIIIH", 0, side, side, 0, 0, tile or side, tile or side, 0, 0, components)
    code = b"\xff\x4f" + segment(0x51, size + bytes([7, 1, 1]) * components)

    def style(precinct):
        sizes = b"" if precinct is None else bytes([precinct * 17] * (levels + 1))
        return bytes([precinct is not None]), bytes([levels, block, block, 0, 1]) + sizes

    flag, body = style(precinct)
    own = segment(0x52, flag + struct.pack(">BHB", 0, layers, 0) + body)
    plain = segment(0x52, style(None)[0] + struct.pack(">BHB", 0, layers, 0) + style(None)[1])
    coc = segment(0x53, b"\0" + flag + body)
    # Of a marker that it doesn't know, OpenJPEG skips two bytes, not the segment.
    hidden = plain + b"\xff\x6f" + own
    code += {"main": own, "component": plain + coc, "tile": plain, "skipped": hidden}[style_in]
    code += segment(0x5C, bytes([0x20 | 2] + [0x40] * (3 * levels + 1)))
    part = own if style_in == "tile" else b""
    code += segment(0x90, struct.pack(">HIBB", 0, 14 + len(part) + 1, 0, 1)) + part + b"\xff\x93\0\xff\xd9"
    if not boxed:
        return code
    header = box(b"ihdr", struct.pack(">IIHBBBB", side, side, components, 7, 7, 0, 0))
    header += box(b"colr", struct.pack(">BBBI", 1, 0, 0, 17))
    return box(b"jP  ", b"\r\n\x87\n") + box(b"ftyp", b"jp2 \0\0\0\0jp2 ") + box(b"jp2h", header) + box(b"jp2c", code)


def box(kind, data):
    return struct.pack(">I4s", len(data) + 8, kind) + data


def icon(content, bits=32):
    """An icon whose one entry says 16 x 16 px."""
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, bits, len(content), 22) + content


def bitmap(width, height, bits=24, compression=0, data=b""):
    """A BMP without its file's head, as icons have it."""
    return struct.pack("<IiiHHIIIIII", 40, width, height, 1, bits, compression, len(data), 0, 0, 0, 0) + data


def run_lengths(side):
    """A BMP of rows that end after their first pixel, which Pillow fills a pixel at a time."""
    colours = bytes(range(4)) * 256
    body = bitmap(side, side, 8, 1, colours + b"\1\0\0\0" * side)
    return b"BM" + struct.pack("<III", 14 + len(body), 0, 14 + 40 + len(colours)) + body


def gif(width, height, blocks=b""):
    plain = encode(photo().quantize(8), "GIF")
    start = 13 + (3 << (plain[10] & 7) + 1)
    return plain[:6] + struct.pack("<HH", width, height) + plain[10:start] + blocks + plain[start:]


def webp(kind, side):
    """A WebP whose canvas is a square."""
    less = (side - 1).to_bytes(3, "little")
    data = {
        b"VP8X": bytes(4) + less * 2,
        b"VP8 ": b"\x30\0\0\x9d\1\x2a" + struct.pack("<HH", side, side),
        b"VP8L": b"\x2f" + struct.pack("<I", (side - 1) * (1 | 1 << 14)) + bytes(9),
    }[kind]
    body = b"WEBP" + kind + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def avif(side):
    """An AVIF of few pixels that says it has others."""
    content = bytearray(encode(photo(), "AVIF"))
    struct.pack_into(">II", content, content.index(b"ispe") + 8, side, side)
    return bytes(content)


def large_png(side):
    """A PNG of a square of black, whole: all its pixels are there."""
    return encode(Image.new("1", (side, side)), "PNG")


def row(width, kind="PNG"):
    """An image of one row."""
    return encode(Image.new("L", (width, 1)), kind)


EXIF = segment(0xE1, b"Exif\0\0z")
PRECINCTS = "more than 100,000 precincts a tile"
MEGAPIXELS, ROW = "more than 100 megapixels", "more than 65,535 pixels in a row: 65,536"

# Name -> (what makes the file, how the reason begins or what it holds).
FILES = {
    "PostScript in IPTC": (lambda: iptc(POSTSCRIPT), "not an image"),
    "image in IPTC": (lambda: iptc(encode(photo(), "PNG")), "not an image"),
    "JPEG of too many scans": (lambda: scans(800, 101), "more than 100 scans: 101"),
    "JPEG of too many pixels in its scans": (lambda: scans(8000, 60), "more than 2,500,000,000 pixels in all scans"),
    "JPEG whose scans hide behind garbage": (lambda: scans(800, 101, b"garbage"), "more than 100 scans: 101"),
    "JPEG of EXIF in many segments": (lambda: jpeg_with(EXIF * 5_000), "more than 64 segments of EXIF: 65"),
    "JPEG of many comments": (lambda: jpeg_with(segment(0xFE, b"") * 6_000), "more than 5,000 segments: 5,001"),
    "JPEG whose segments hide behind an end": (lambda: jpeg_with(b"\xff\xd9" + EXIF * 99), "more than 64 segments"),
    "PNG of many chunks": (lambda: png_with(chunk(b"tEXt", b"") * 101_000), "more than 100,000 chunks: 100,001"),
    "PNG of many colour profiles": (lambda: profiles(300), "more than 256 compressed chunks"),
    "TIFF of one huge tile": (lambda: tiled_tiff(50_000), "more than 16,777,216 pixels a tile: 2,500,000,000"),
    "BigTIFF of one huge tile": (lambda: tiled_tiff(50_000, order="<", big=True), "more than 16,777,216 pixels a tile"),
    "big-endian TIFF of one huge tile": (lambda: tiled_tiff(50_000, order=">"), "more than 16,777,216 pixels a tile"),
    "TIFF of more strips than rows": (
        lambda: strips(99_000),
        "more than 2 strips or tiles that its size asks for: 99,000",
    ),
    "TIFF of tiles of a pixel": (
        lambda: tiff(999, 999, (322, (4, 1, 1)), (323, (4, 1, 1)), (324, (4, 1, 0)), compression=5),
        "more than 100,000 strips or tiles: 998,001",
    ),
    "TIFF of rows that share their bytes": (lambda: strips(99, 99), "damaged: image file is truncated"),
    "TIFF of a field twice": (lambda: tiff(9, 9, (257, (4, 1, 9))), "damaged: TIFF's field 257 is there twice"),
    "TIFF of many fractions": (
        lambda: tiff(9, 9, (282, (5, 100_000, 8)), (273, (4, 1, 8)), places=bytes(800_000)),
        "more than 10,000 values of TIFF's field 282: 100,000",
    ),
    "TIFF that is too large": (lambda: tiff(OVER, OVER, (273, (4, 1, 0))), MEGAPIXELS),
    "JPEG 2000 of small precincts": (lambda: jpeg2000(2000, precinct=1), PRECINCTS),
    "JPEG 2000 of small precincts in boxes": (lambda: jpeg2000(2000, precinct=1, boxed=True), PRECINCTS),
    "JPEG 2000 of small precincts in a tile": (lambda: jpeg2000(2000, precinct=1, style_in="tile"), PRECINCTS),
    "JPEG 2000 of small precincts in a component": (
        lambda: jpeg2000(2000, precinct=1, style_in="component"),
        PRECINCTS,
    ),
    "JPEG 2000 whose precincts hide": (lambda: jpeg2000(2000, precinct=1, style_in="skipped"), PRECINCTS),
    "JPEG 2000 of small code-blocks": (lambda: jpeg2000(9000, block=0), "more than 500,000 code-blocks a tile"),
    "JPEG 2000 of many layers": (lambda: jpeg2000(4000, precinct=6, layers=65_535), "more than 10,000,000 packets"),
    "JPEG 2000 of many tiles": (lambda: jpeg2000(9000, tile=36), "more than 8,192 tiles: 62,500"),
    "JPEG 2000 of many components": (lambda: jpeg2000(9, components=16_384), "more than 4 components: 16,384"),
    "JPEG 2000 that is too large": (lambda: jpeg2000(OVER), MEGAPIXELS),
    "PNG of a long row": (lambda: row(65_536), ROW),
    "TIFF of a long row": (lambda: row(65_536, "TIFF"), ROW),
    "PPM of a long column": (lambda: b"P5 1 65536 255\n" + bytes(65_536), ROW),
    "GIF of a huge canvas": (lambda: gif(65_535, 65_535), MEGAPIXELS),
    "GIF of many blocks": (lambda: gif(56, 40, b"!\xfe" + b"\1x" * 200_000 + b"\0"), "more than 100,000 blocks"),
    "WebP of a huge canvas": (lambda: webp(b"VP8X", 16_000), MEGAPIXELS),
    "lossy WebP that is too large": (lambda: webp(b"VP8 ", OVER), MEGAPIXELS),
    "lossless WebP that is too large": (lambda: webp(b"VP8L", OVER), MEGAPIXELS),
    "AVIF that says it is too large": (lambda: avif(OVER), MEGAPIXELS),
    "icon that holds a large PNG": (lambda: icon(large_png(OVER)), MEGAPIXELS),
    "icon that holds a large bitmap": (lambda: icon(bitmap(OVER, 2 * OVER)), MEGAPIXELS),
    "icon that holds a PNG of many chunks": (
        lambda: icon(png_with(chunk(b"tEXt", b"") * 101_000)),
        "more than 100,000 chunks: 100,001",
    ),
    "run-length BMP of many pixels": (lambda: run_lengths(9000), "more than 6,000,000 values of run-length BMP"),
    "PPM of many comments": (lambda: b"P3 9 9 255\n" + b"#\n" * 500_000, "more than 1,000 comments: 500,000"),
    "PPM of a long head": (lambda: b"P6 #" + b"x" * 1_000_000, "more than 65,536 bytes in the head of a PPM"),
    "PPM that is text of many pixels": (lambda: b"P1 9000 9000\n" + b"1" * 99, "more than 6,000,000 values of"),
    "TGA that is too large": (
        lambda: struct.pack("<BBBHHBHHHHBB", 0, 0, 10, 0, 0, 0, 0, 0, OVER, OVER, 24, 0) + b"\xff" * 99,
        MEGAPIXELS,
    ),
    "only a PNG's signature and many chunks": (
        lambda: SIGNATURE + chunk(b"tEXt", b"") * 101_000,
        "more than 100,000 chunks: 100,001",
    ),
}

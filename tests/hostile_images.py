"""Hostile image files: what makes each, and how the reason for its rejection begins."""

import struct
import zlib
from collections.abc import Callable
from typing import Any

from PIL import Image

from checks import image_builders as make
from checks.image_builders import JPEG, PNG, chunk, encode, icon, jpeg2000, photo, put, with_parts


def tiled_tiff(side: int, **options: Any) -> bytes:
    """A TIFF of 9 x 9 px in one tile of another size."""
    return make.tiff(9, 9, (322, side), (323, side), (324, 0), (325, 81), **options)


def strips(count: int, height: int = 2) -> bytes:
    """A TIFF that lists strips which lie a byte apart, whose rows Pillow then reads byte by byte."""
    places = struct.pack(f"<{count}I", *range(count))
    return make.tiff(999, height, (278, 1), (273, (4, count, 8)), (279, (4, count, 8)), places=places)


def run_lengths(side: int) -> bytes:
    """A BMP of rows that end after their first pixel, which Pillow fills a pixel at a time."""
    colours = bytes(range(4)) * 256
    body = make.bitmap(side, side, 8, 1, colours + b"\1\0\0\0" * side)
    return b"BM" + struct.pack("<III", 14 + len(body), 0, 14 + 40 + len(colours)) + body


OVER = 11_000  # px; its square is over the limit
SIDES, PACKED = struct.pack("<HH", OVER, OVER), struct.pack("<I", (OVER - 1) * (1 | 1 << 14))
EXIF = make.segment(0xE1, b"Exif\0\0z")
MANY_CHUNKS = chunk(b"tEXt", b"") * 101_000
PROFILE = chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(1 << 20), 9))  # of zeros
CHUNKS, PRECINCTS = "more than 100,000 chunks: 100,001", "more than 100,000 precincts a tile"
SEGMENTS, TILES = "more than 64 segments", "more than 100,000 strips or tiles: 998,001"
VALUES = "more than 10,000 values of TIFF's field 282: 100,000"
MEGAPIXELS, ROW = "more than 100 megapixels", "more than 65,535 pixels in a row: 65,536"
STRIPS = "more than 2 strips or tiles that its size asks for: 99,000"
TILE = "more than 16,777,216 pixels a tile"

FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "PostScript in IPTC": (lambda: make.iptc(make.POSTSCRIPT), "not an image"),
    "image in IPTC": (lambda: make.iptc(PNG), "not an image"),
    "JPEG of too many scans": (lambda: make.scans(800, 101), "more than 100 scans: 101"),
    "JPEG of too many pixels in its scans": (
        lambda: make.scans(8000, 60),
        "more than 2,500,000,000 pixels in all scans",
    ),
    "JPEG whose scans hide behind garbage": (lambda: make.scans(800, 101, b"garbage"), "more than 100 scans: 101"),
    "JPEG of EXIF in many segments": (lambda: with_parts(JPEG, EXIF * 5_000), "more than 64 segments of EXIF: 65"),
    "JPEG of many comments": (lambda: with_parts(JPEG, b"\xff\xfe\0\2" * 6_000), "more than 5,000 segments: 5,001"),
    "JPEG whose segments hide behind an end": (lambda: with_parts(JPEG, b"\xff\xd9" + EXIF * 99), SEGMENTS),
    "PNG of many chunks": (lambda: with_parts(PNG, MANY_CHUNKS), CHUNKS),
    "PNG of many colour profiles": (lambda: with_parts(PNG, PROFILE * 300), "more than 256 compressed chunks"),
    "TIFF of one huge tile": (lambda: tiled_tiff(50_000), f"{TILE}: 2,500,000,000"),
    "BigTIFF of one huge tile": (lambda: tiled_tiff(50_000, order="<", big=True), TILE),
    "big-endian TIFF of one huge tile": (lambda: tiled_tiff(50_000, order=">"), TILE),
    "TIFF of more strips than rows": (lambda: strips(99_000), STRIPS),
    "TIFF of tiles of a pixel": (lambda: make.tiff(999, 999, (322, 1), (323, 1), (324, 0), compression=5), TILES),
    "TIFF of rows that share their bytes": (lambda: strips(99, 99), "damaged: image file is truncated"),
    "TIFF of a field twice": (lambda: make.tiff(9, 9, (257, 9)), "damaged: TIFF's field 257 is there twice"),
    "TIFF of many fractions": (
        lambda: make.tiff(9, 9, (282, (5, 100_000, 8)), (273, 8), places=bytes(800_000)),
        VALUES,
    ),
    "TIFF that is too large": (lambda: make.tiff(OVER, OVER, (273, 0)), MEGAPIXELS),
    "JPEG 2000 of small precincts": (lambda: jpeg2000(2000, precinct=1), PRECINCTS),
    "JPEG 2000 of small precincts in boxes": (lambda: make.jp2(jpeg2000(2000, precinct=1), 2000), PRECINCTS),
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
    "GIF of a huge canvas": (lambda: make.gif(65_535, 65_535), MEGAPIXELS),
    "GIF of many blocks": (lambda: make.gif(56, 40, b"!\xfe" + b"\1x" * 200_000 + b"\0"), "more than 100,000 blocks"),
    "WebP of a huge canvas": (lambda: put(encode(photo(), "WEBP", exif=EXIF), 24, b"\x7f\x3e\0" * 2), MEGAPIXELS),
    "lossy WebP that is too large": (lambda: put(encode(photo(), "WEBP"), 26, SIDES), MEGAPIXELS),
    "lossless WebP that is too large": (lambda: put(encode(photo(), "WEBP", lossless=True), 21, PACKED), MEGAPIXELS),
    "AVIF that says it is too large": (lambda: make.avif(OVER), MEGAPIXELS),
    "icon that holds a large PNG": (lambda: icon(make.large_png(OVER)), MEGAPIXELS),
    "icon that holds a large bitmap": (lambda: icon(make.bitmap(OVER, 2 * OVER)), MEGAPIXELS),
    "icon that holds a PNG of many chunks": (lambda: icon(with_parts(PNG, MANY_CHUNKS)), CHUNKS),
    "run-length BMP of many pixels": (lambda: run_lengths(9000), "more than 6,000,000 values of run-length BMP"),
    "PPM of many comments": (lambda: b"P3 9 9 255\n" + b"#\n" * 500_000, "more than 1,000 comments: 500,000"),
    "PPM of a long head": (lambda: b"P6 #" + b"x" * 1_000_000, "more than 65,536 bytes in the head of a PPM"),
    "PPM that is text of many pixels": (lambda: b"P1 9000 9000\n" + b"1" * 99, "more than 6,000,000 values of"),
    "TGA that is too large": (lambda: put(encode(photo(), "TGA", compression="tga_rle"), 12, SIDES), MEGAPIXELS),
    "only a PNG's signature and many chunks": (lambda: make.SIGNATURE + MANY_CHUNKS, CHUNKS),
}

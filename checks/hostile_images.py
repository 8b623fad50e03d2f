"""Small files that ask for far more than their size says: each made by hand, and harmless where it lies.

Open them only where `normalise` guards, or under limits of memory and CPU time.
"""

import struct
from collections.abc import Callable

from PIL import Image

from checks import image_builders as make
from checks.image_builders import POSTSCRIPT, encode, iptc, jpeg2000, photo, png_with, put, scans, tiff

OVER = 11_000  # px; its square is over the limit
SIDES = struct.pack("<HH", OVER, OVER)
EXIF = make.segment(0xE1, b"Exif\0\0z")
MANY_CHUNKS = make.chunk(b"tEXt", b"") * 101_000
CHUNKS, PRECINCTS = "more than 100,000 chunks: 100,001", "more than 100,000 precincts a tile"
SEGMENTS = "more than 64 segments"
MEGAPIXELS, ROW = "more than 100 megapixels", "more than 65,535 pixels in a row: 65,536"
STRIPS = "more than 2 strips or tiles that its size asks for: 99,000"
TILE = "more than 16,777,216 pixels a tile"

# Name -> (what makes the file, how the reason begins or what it holds).
FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "PostScript in IPTC": (lambda: iptc(POSTSCRIPT), "not an image"),
    "image in IPTC": (lambda: iptc(encode(photo(), "PNG")), "not an image"),
    "JPEG of too many scans": (lambda: scans(800, 101), "more than 100 scans: 101"),
    "JPEG of too many pixels in its scans": (lambda: scans(8000, 60), "more than 2,500,000,000 pixels in all scans"),
    "JPEG whose scans hide behind garbage": (lambda: scans(800, 101, b"garbage"), "more than 100 scans: 101"),
    "JPEG of EXIF in many segments": (lambda: make.jpeg_with(EXIF * 5_000), "more than 64 segments of EXIF: 65"),
    "JPEG of many comments": (lambda: make.jpeg_with(b"\xff\xfe\0\2" * 6_000), "more than 5,000 segments: 5,001"),
    "JPEG whose segments hide behind an end": (lambda: make.jpeg_with(b"\xff\xd9" + EXIF * 99), SEGMENTS),
    "PNG of many chunks": (lambda: png_with(MANY_CHUNKS), CHUNKS),
    "PNG of many colour profiles": (lambda: make.profiles(300), "more than 256 compressed chunks"),
    "TIFF of one huge tile": (lambda: make.tiled_tiff(50_000), f"{TILE}: 2,500,000,000"),
    "BigTIFF of one huge tile": (lambda: make.tiled_tiff(50_000, order="<", big=True), TILE),
    "big-endian TIFF of one huge tile": (lambda: make.tiled_tiff(50_000, order=">"), TILE),
    "TIFF of more strips than rows": (lambda: make.strips(99_000), STRIPS),
    "TIFF of tiles of a pixel": (
        lambda: tiff(999, 999, (322, (4, 1, 1)), (323, (4, 1, 1)), (324, (4, 1, 0)), compression=5),
        "more than 100,000 strips or tiles: 998,001",
    ),
    "TIFF of rows that share their bytes": (lambda: make.strips(99, 99), "damaged: image file is truncated"),
    "TIFF of a field twice": (lambda: tiff(9, 9, (257, (4, 1, 9))), "damaged: TIFF's field 257 is there twice"),
    "TIFF of many fractions": (
        lambda: tiff(9, 9, (282, (5, 100_000, 8)), (273, (4, 1, 8)), places=bytes(800_000)),
        "more than 10,000 values of TIFF's field 282: 100,000",
    ),
    "TIFF that is too large": (lambda: tiff(OVER, OVER, (273, (4, 1, 0))), MEGAPIXELS),
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
    "lossless WebP that is too large": (
        lambda: put(encode(photo(), "WEBP", lossless=True), 21, struct.pack("<I", (OVER - 1) * (1 | 1 << 14))),
        MEGAPIXELS,
    ),
    "AVIF that says it is too large": (lambda: make.avif(OVER), MEGAPIXELS),
    "icon that holds a large PNG": (lambda: make.icon(make.large_png(OVER)), MEGAPIXELS),
    "icon that holds a large bitmap": (lambda: make.icon(make.bitmap(OVER, 2 * OVER)), MEGAPIXELS),
    "icon that holds a PNG of many chunks": (lambda: make.icon(png_with(MANY_CHUNKS)), CHUNKS),
    "run-length BMP of many pixels": (lambda: make.run_lengths(9000), "more than 6,000,000 values of run-length BMP"),
    "PPM of many comments": (lambda: b"P3 9 9 255\n" + b"#\n" * 500_000, "more than 1,000 comments: 500,000"),
    "PPM of a long head": (lambda: b"P6 #" + b"x" * 1_000_000, "more than 65,536 bytes in the head of a PPM"),
    "PPM that is text of many pixels": (lambda: b"P1 9000 9000\n" + b"1" * 99, "more than 6,000,000 values of"),
    "TGA that is too large": (lambda: put(encode(photo(), "TGA", compression="tga_rle"), 12, SIDES), MEGAPIXELS),
    "only a PNG's signature and many chunks": (lambda: make.SIGNATURE + MANY_CHUNKS, CHUNKS),
}

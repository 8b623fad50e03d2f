"""Every kind of odd or bad image file that is tried, each with what must become of it.

`tests/zoo_folders.py` has the kinds that are names, links and folders; `python -m tests.zoo_folders` prints all of them
and the table of docs/reliability.md.
"""

import gzip
import io
import struct
import zipfile
import zlib
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from checks.image_builders import JPEG, PNG, SIGNATURE, chunk, directory, encode, photo, put
from tests.hostile_images import FILES

HEIGHT, WIDTH = 40, 56
RGB, GREY = np.asarray(photo()), np.asarray(photo().convert("L"))
KEPT, CONVERTED = "kept byte for byte", "converted to PNG"
BOMB_BYTES = 64 << 20  # of zeros, in a compressed block of metadata


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def png(colour_type, bits, rows, *chunks, size=(WIDTH, HEIGHT), interlaced=False):
    """A PNG built by hand: (colour type, bits a channel, rows of bytes or pixels, chunks before them)."""
    header = struct.pack(">IIBBBBB", *size, bits, colour_type, 0, 0, interlaced)
    pixels = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))
    parts = [chunk(b"IHDR", header), *(chunk(*each) for each in chunks), chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return SIGNATURE + b"".join(parts)


def keyed(colour_type, bits, samples, *colour):
    """A PNG of samples (height, width[, 3]) with a transparent colour; 1, 2 and 4 bits are packed into bytes."""
    samples = np.asarray(samples, np.uint16)
    if bits == 16:
        rows = list(samples.astype(">u2").reshape(len(samples), -1))
    else:
        each_bit = samples.reshape(len(samples), -1, 1) >> np.arange(bits)[::-1] & 1
        rows = list(np.packbits(each_bit.reshape(len(samples), -1), axis=1))
    parts = (b"tRNS", struct.pack(f">{len(colour)}H", *colour))
    return png(colour_type, bits, rows, parts, size=samples.shape[1::-1])


def interlaced_png():
    """An Adam7 PNG: seven passes, each the rows and columns that its grid picks."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    return png(2, 8, [row for y, x, dy, dx in passes for row in RGB[y::dy, x::dx]], interlaced=True)


# What a camera does to the upright photograph for orientations 2 to 8: the inverse of what a viewer must do.
TURNS = "FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_90", "TRANSVERSE", "ROTATE_270"


def turned(orientation):
    """How a camera stores the upright photograph under an EXIF orientation."""
    return photo() if orientation == 1 else photo().transpose(Image.Transpose[TURNS[orientation - 2]])


def bomb(side):
    """A PNG whose header promises `side` x `side` pixels."""
    return png(2, 8, RGB, size=(side, side))


class Kind(NamedTuple):
    """A kind of file."""

    name: str  # for people
    content: bytes
    outcome: str  # `KEPT`, `CONVERTED`, or how the reason in rejected.csv begins
    pixels: Any = None  # uint8 (height, width[, 3]) that an accepted one must show
    tolerance: int = 0  # by which they may differ, where the format loses something
    suffix: str = ".jpg"

    @property
    def accepted(self) -> bool:
        return self.outcome in (KEPT, CONVERTED)

    @property
    def file(self) -> str:
        return f"{self.name}{self.suffix}".replace("/", " of ")


def tiff(bits, photometric, content, kind=1):
    """A grey TIFF of one strip."""
    tags = {256: WIDTH, 257: HEIGHT, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: HEIGHT}
    tags |= {279: len(content), 339: kind}
    return directory(tags.items(), places=content)


def packed_12_bits(values):
    first, second = values.reshape(-1, 2).astype(int).T
    return np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=1).astype(np.uint8).tobytes()


def top_down_bmp():
    content = encode(photo(), "BMP")
    rows = np.frombuffer(content[54:], np.uint8).reshape(HEIGHT, -1)
    return put(content[:54], 22, struct.pack("<i", -HEIGHT)) + rows[::-1].tobytes()


def palette_with_alpha():
    """A palette PNG whose first colour is half transparent, and what it looks like on white."""
    row = [0] * (WIDTH // 2) + [1] * (WIDTH // 2)
    content = png(3, 8, [bytes(row)] * HEIGHT, (b"PLTE", b"\0\0\0\xc8\0\0"), (b"tRNS", b"\x80"))
    return content, np.array([(127, 127, 127), (200, 0, 0)], np.uint8)[[row] * HEIGHT]


def alpha(mode):
    """The photograph with a left half that is wholly transparent, and what it looks like on white."""
    image = photo().convert(mode)
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    mask[:, : WIDTH // 2] = 0
    image.putalpha(Image.fromarray(mask))
    shown = (GREY if mode == "LA" else RGB).copy()
    shown[:, : WIDTH // 2] = 255
    return image, shown


def flipped(content, place, bit=1):
    return content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :]


def jpeg_of(height, width):
    """A JPEG whose frame header is changed to another size."""
    return put(JPEG, JPEG.index(b"\xff\xc0") + 5, struct.pack(">HH", height, width))


def zipped(encrypted=False):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("image.jpg", JPEG)
    return put(out.getvalue(), 6, bytes([encrypted]))


def two_frames():
    """Options that add a black image behind the first; a new one each time, for `save` leaves its own marks on it."""
    return {"save_all": True, "append_images": [Image.new("RGB", (WIDTH, HEIGHT))]}


def film_of(mark):
    return b"\0\0\0\x18ftyp" + mark + b"\0\0\0\0mif1" + mark + bytes(100)


IDAT = PNG.index(b"IDAT")
DATA_BYTES = struct.unpack(">I", PNG[IDAT - 4 : IDAT])[0]
ZEROS = zlib.compress(bytes(BOMB_BYTES), 9)
LARGE_EXIF = b"Exif\0\0II*\0\x08\0\0\0\0\0" + bytes(65_000)
# Half of its bytes hold half of its rows.
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))
RGBA, ON_WHITE = alpha("RGBA")
GREY_ALPHA, GREY_ON_WHITE = alpha("LA")
PALETTE, PALETTE_ON_WHITE = palette_with_alpha()
BILEVEL = np.asarray(photo().convert("1").convert("L"))
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>alert(1)</script></svg>'
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"
TRUNCATED = "damaged: image file is truncated"

KINDS = [
    Kind("progressive JPEG", encode(photo(), "JPEG", progressive=True), KEPT, RGB, 12),
    Kind("grey JPEG", encode(photo().convert("L"), "JPEG"), KEPT, GREY, 12),
    Kind("JPEG with bytes after its end", JPEG + b"<?php ?>" * 99, KEPT, RGB, 12),
    Kind("JPEG of several images (MPO)", encode(photo(), "MPO", **two_frames()), KEPT, RGB, 12),
    Kind("JPEG with 64 kB of EXIF", encode(photo(), "JPEG", exif=LARGE_EXIF), KEPT, RGB, 12),
    Kind("JPEG with broken EXIF", encode(photo(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"), KEPT, RGB, 12),
    Kind("JPEG with a broken colour profile", encode(photo(), "JPEG", icc_profile=b"none"), KEPT, RGB, 12),
    Kind("PNG with a broken colour profile", encode(photo(), "PNG", icc_profile=b"none"), KEPT, RGB),
    Kind("interlaced PNG", interlaced_png(), KEPT, RGB),
    Kind("animated PNG", encode(photo(), "PNG", **two_frames()), KEPT, RGB),
    Kind("PNG with bytes after its end", PNG + b"trailer", KEPT, RGB),
    Kind("image of 1 x 1 px", encode(Image.new("RGB", (1, 1), (9, 8, 7)), "PNG"), KEPT, np.array([[[9, 8, 7]]])),
    Kind("image of 5,000 x 1 px", encode(Image.new("L", (5000, 1), 3), "PNG"), KEPT, np.full((1, 5000), 3)),
    Kind("PNG named .jpg", PNG, KEPT, RGB),
    Kind("JPEG named .txt", JPEG + b"\n", KEPT, RGB, 12, ".txt"),
    Kind("JPEG without a suffix", JPEG + b"\n\n", KEPT, RGB, 12, ""),
    Kind("CMYK JPEG", encode(photo().convert("CMYK"), "JPEG", quality=95), CONVERTED, RGB, 16),
    Kind("JPEG turned by EXIF", encode(turned(6), "JPEG", exif=exif(6), quality=98, subsampling=0), CONVERTED, RGB, 9),
    Kind("PNG turned by EXIF", encode(turned(8), "PNG", exif=exif(8)), CONVERTED, RGB),
    Kind("JPEG whose last bytes are others", JPEG[:-2] + b"7\xd9", CONVERTED, RGB, 12),
    Kind("PNG without its end", PNG[:-12], CONVERTED, RGB),
    Kind("PNG with a wrong checksum over right pixels", flipped(PNG, IDAT + 4 + DATA_BYTES), CONVERTED, RGB),
    Kind("16-bit grey PNG", png(0, 16, GREY.astype(">u2") * 257), CONVERTED, GREY),
    Kind("16-bit RGB PNG", png(2, 16, RGB.astype(">u2") * 257), CONVERTED, RGB),
    Kind("16-bit TIFF", tiff(16, 1, (GREY.astype("<u2") * 257).tobytes()), CONVERTED, GREY),
    Kind("16-bit TIFF where 0 is white", tiff(16, 0, (65535 - GREY.astype("<u2") * 257).tobytes()), CONVERTED, GREY),
    Kind("12-bit TIFF", tiff(12, 1, packed_12_bits(GREY.astype(int) << 4)), CONVERTED, GREY),
    Kind("1-bit PNG", encode(photo().convert("1"), "PNG"), CONVERTED, BILEVEL),
    Kind("1-bit fax TIFF", encode(photo().convert("1"), "TIFF", compression="group4"), CONVERTED, BILEVEL),
    Kind("palette PNG with alpha", PALETTE, CONVERTED, PALETTE_ON_WHITE, 1),
    Kind("RGB PNG with alpha", encode(RGBA, "PNG"), CONVERTED, ON_WHITE),
    Kind("grey PNG with alpha", encode(GREY_ALPHA, "PNG"), CONVERTED, GREY_ON_WHITE),
    Kind("animated GIF", encode(photo().quantize(256), "GIF", **two_frames()), CONVERTED, RGB, 24, ".gif"),
    Kind("animated WebP", encode(photo(), "WEBP", lossless=True, **two_frames()), CONVERTED, RGB, 0, ".webp"),
    Kind("TIFF of several pages", encode(photo(), "TIFF", **two_frames()), CONVERTED, RGB, 0, ".tif"),
    Kind("WebP", encode(photo(), "WEBP", lossless=True), CONVERTED, RGB, 0, ".webp"),
    Kind("AVIF", encode(photo(), "AVIF", quality=95), CONVERTED, RGB, 12, ".avif"),
    Kind("JPEG 2000", encode(photo(), "JPEG2000"), CONVERTED, RGB, 0, ".jp2"),
    Kind("BMP from top to bottom", top_down_bmp(), CONVERTED, RGB, 0, ".bmp"),
    Kind("icon", encode(photo(), "ICO", sizes=[(WIDTH, HEIGHT)]), CONVERTED, RGB, 0, ".ico"),
    Kind("empty file", b"", "empty file"),
    Kind("one byte", b"\xff", "not an image"),
    Kind("JPEG that ends after its signature", JPEG[:3], "not an image"),
    Kind("truncated JPEG", JPEG[:-200], TRUNCATED),
    Kind("JPEG without its last two bytes", JPEG[:-2], TRUNCATED),
    Kind("truncated progressive JPEG", encode(NOISE, "JPEG", progressive=True)[:1300], TRUNCATED),
    Kind("truncated PNG", PNG[:-60], "damaged: "),
    Kind("truncated GIF", encode(photo().quantize(256), "GIF")[:900], "damaged: "),
    Kind("truncated WebP", encode(NOISE, "WEBP")[:-400], "damaged: "),
    Kind("truncated BMP", encode(photo(), "BMP")[:-60], TRUNCATED),
    Kind("truncated TIFF", encode(NOISE, "TIFF")[:3000], TRUNCATED),
    Kind("PNG with a flipped bit in its pixels", flipped(PNG, IDAT + 9), "damaged: "),
    Kind("PNG with a flipped bit in its header", flipped(PNG, 19), "not an image"),
    Kind("PNG of no pixels", png(2, 8, [], size=(0, 10)), "not an image"),
    Kind("JPEG of no pixels", jpeg_of(0, 0), "not an image"),
    Kind("GIF without a frame", b"GIF89a" + struct.pack("<HHBBB", WIDTH, HEIGHT, 0, 0, 0) + b";", "not an image"),
    Kind("bomb: PNG of 30,000 x 30,000 px", bomb(30_000), "more than 100 megapixels"),
    Kind("bomb: JPEG of 30,000 x 30,000 px", jpeg_of(30_000, 30_000), "more than 100 megapixels"),
    Kind("bomb: BMP of 30,000 x 30,000 px", put(encode(photo(), "BMP"), 18, struct.pack("<ii", 30_000, 30_000)),
         "more than 100 megapixels"),
    Kind("bomb: PNG text of 64 MB in 64 kB", png(2, 8, RGB, (b"zTXt", b"Comment\0\0" + ZEROS)), "damaged: "),
    Kind("bomb: PNG colour profile of 64 MB in 64 kB", png(2, 8, RGB, (b"iCCP", b"x\0\0" + ZEROS)), "damaged: "),
    Kind("floating-point TIFF", encode(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "floating-point pixels"),
    Kind("32-bit TIFF", encode(Image.fromarray(np.full((4, 4), 70_000, np.int32)), "TIFF"), "32-bit pixels"),
    Kind("signed 16-bit TIFF", tiff(16, 1, (GREY.astype("<i2") - 99).tobytes(), kind=2), "32-bit pixels"),
    Kind("HTML named .jpg", b"\n <!DOCTYPE html><html>404</html>", "HTML, not an image"),
    Kind("text named .jpg", b"Not found", "not an image"),
    Kind("JSON named .jpg", b'{"error": "rate limit"}', "not an image"),
    Kind("SVG", SVG, "SVG or other XML, not an image of pixels", suffix=".svg"),
    Kind("PDF", encode(photo(), "PDF"), "PDF, not an image", suffix=".pdf"),
    Kind("PostScript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not an image", suffix=".eps"),
    Kind("zip named .jpg", zipped(), "a zip archive, not an image"),
    Kind("zip with a password named .jpg", zipped(encrypted=True), "a zip archive, not an image"),
    Kind("gzip named .jpg", gzip.compress(JPEG, mtime=0), "not an image"),
    Kind("HEIC of a phone", film_of(b"heic"), "HEIC, ", suffix=".heic"),
    Kind("film", film_of(b"isom"), "a film, not an image", suffix=".mp4"),
    Kind("pointer of Git LFS", LFS, "a pointer of Git LFS (fetch the file by: git lfs pull)"),
    Kind("program", b"\x7fELF\2\1\1" + bytes(99), "not an image"),
    Kind("zeros", bytes(5000), "not an image"),
    Kind("noise", np.random.default_rng(1).bytes(5000), "not an image"),
    Kind("only the signature of a PNG", SIGNATURE + chunk(b"IEND", b""), "not an image"),
    *(Kind(name, make(), reason) for name, (make, reason) in FILES.items()),
]  # fmt: skip

"""One small photograph in the forms that files take: formats, colour types, orientations, and damage by hand."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 40, 56
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def photo() -> Image.Image:
    """A smooth image that differs in all four corners and three channels."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return Image.fromarray(np.stack([x * 4, y * 6, (x + y) * 2], axis=-1).astype(np.uint8))


def encode(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def chunk(kind, body):
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(colour_type, bits, rows, *chunks, size=(WIDTH, HEIGHT)):
    """A PNG built by hand: (colour type, bits a channel, unfiltered rows, chunks before the pixels)."""
    header = struct.pack(">IIBBBBB", *size, bits, colour_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [chunk(b"IHDR", header), *(chunk(*each) for each in chunks), chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return SIGNATURE + b"".join(parts)


def rgb_rows(pixels):
    return [row.tobytes() for row in pixels]


def interlaced_png():
    """An Adam7 PNG: seven passes, each the rows and columns that its grid picks."""
    pixels = np.asarray(photo())
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = [row.tobytes() for y, x, dy, dx in passes for row in pixels[y::dy, x::dx]]
    plain = png(2, 8, rows)
    header = plain[12:28] + b"\1"
    return plain[:12] + header + struct.pack(">I", zlib.crc32(header)) + plain[33:]


def turned(orientation):
    """How a camera stores the upright photograph under an EXIF orientation: the inverse of what a viewer must do."""
    upright = np.asarray(photo())
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    return Image.fromarray(np.ascontiguousarray(stored))


def bomb(side):
    """A PNG whose header promises `side` x `side` pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return SIGNATURE + chunk(b"IHDR", header) + encode(photo(), "PNG")[33:]

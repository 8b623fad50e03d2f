"""A photograph of checks/image_builders.py in the forms that files take: colour types, orientations, damage by hand."""

import struct
import zlib

import numpy as np
from PIL import Image

from checks.image_builders import SIGNATURE, chunk, encode, photo

HEIGHT, WIDTH = 40, 56


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def png(colour_type, bits, rows, *chunks, size=(WIDTH, HEIGHT), interlaced=False):
    """A PNG built by hand: (colour type, bits a channel, unfiltered rows, chunks before the pixels)."""
    header = struct.pack(">IIBBBBB", *size, bits, colour_type, 0, 0, interlaced)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [chunk(b"IHDR", header), *(chunk(*each) for each in chunks), chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return SIGNATURE + b"".join(parts)


def rgb_rows(pixels):
    return [row.tobytes() for row in pixels]


def interlaced_png():
    """An Adam7 PNG: seven passes, each the rows and columns that its grid picks."""
    pixels = np.asarray(photo())
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    return png(2, 8, [row.tobytes() for y, x, dy, dx in passes for row in pixels[y::dy, x::dx]], interlaced=True)


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

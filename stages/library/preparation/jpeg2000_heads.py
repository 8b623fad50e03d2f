"""JPEG 2000's heads, read as OpenJPEG does (ISO/IEC 15444-1, annex A; boxes: annex I) before it is decoded.

A decoder lays out all tiles, precincts, code-blocks and packets that they ask for, however few bytes there are.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from stages.library.preparation.image_formats import ImageError, bound, bound_pixels

# 100 megapixels in tiles of 128 x 128 are 6,104.
TILES = 8_192
SEGMENTS = 250_000  # of all heads; those of tile-parts repeat
COMPONENTS = 4  # that Pillow takes
# In a tile, laid out at once: a precinct takes 1.7 kB. 100 megapixels of RGB in precincts of 64 x 64 are 98,000,
# in code-blocks of 32 x 32 as many as 293,000.
PRECINCTS, CODE_BLOCKS = 100_000, 500_000
# In all tiles. Encoders write up to 20 layers or so; a packet is one layer of one precinct.
PACKETS = 10_000_000
# That orders of progression by position step through, in all tiles.
POSITIONS = 10_000_000
LEVELS = 32

SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n"
CODE_STREAM = b"\xff\x4f\xff\x51"
SIZ, COD, COC, SOT, SOD = 0xFF51, 0xFF52, 0xFF53, 0xFF90, 0xFF93
# Markers that OpenJPEG knows; after another one it tries each second byte.
KNOWN = {0xFF50, SIZ, COD, COC, 0xFF55, *range(0xFF57, 0xFF5A), *range(0xFF5C, 0xFF62), 0xFF63, 0xFF64}
KNOWN |= {0xFF74, 0xFF75, 0xFF77, 0xFF78, SOT, 0xFF91, SOD}


class _Grid(NamedTuple):
    tile_width: int  # px
    tile_height: int
    tiles: int
    components: int


def check(content: bytes, max_pixels: int) -> None:
    """Raises ImageError where a code-stream, on its own or in boxes, is too large or has too many parts."""
    start = 0 if content.startswith(CODE_STREAM) else _code_stream(content)
    grid, layers, styles = None, 1, set()
    try:
        for marker, body in _segments(content, start + 2):
            if marker == SIZ:
                grid = _grid(body, max_pixels)
            elif marker == COD:
                layers = max(layers, struct.unpack_from(">H", body, 2)[0])
                styles.add((body[0] & 1, body[5:]))
            elif marker == COC:
                styles.add((body[1] & 1, body[2:]))
        for has_precincts, style in styles:
            if grid:
                _check_style(has_precincts, style, layers, grid)
    except (struct.error, IndexError) as error:
        raise ImageError("damaged: a head of JPEG 2000 is too short") from error


def _code_stream(content: bytes) -> int:
    """Returns where the code-stream begins in a file of boxes."""
    position = 0
    while position + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        head = 8
        if length == 1 and position + 16 <= len(content):
            head, (length,) = 16, struct.unpack_from(">Q", content, position + 8)
        if kind == b"jp2c":
            return position + head
        if length < head:
            break
        position += length
    raise ImageError("damaged: no code-stream in JPEG 2000")


def _segments(content: bytes, position: int) -> Iterator[tuple[int, bytes]]:
    """Yields (marker, its bytes) of the main head and the heads of all tile-parts."""
    number, part, part_bytes = 0, 0, 0
    while position + 4 <= len(content):
        number += 1
        bound("segments", number, SEGMENTS)
        marker, length = struct.unpack_from(">HH", content, position)
        if marker == SOD:  # what follows is coded data; the next tile-part comes after it
            if not part_bytes:
                return
            position = part + part_bytes
            continue
        if marker not in KNOWN:
            position += 2
            continue
        if marker == SOT:
            part, part_bytes = position, struct.unpack_from(">I", content, position + 6)[0]
            if 0 < part_bytes < 12:
                raise ImageError(f"damaged: a tile-part of {part_bytes} bytes in JPEG 2000")
        yield marker, content[position + 4 : position + 2 + length]
        position += 2 + max(2, length)


def _grid(body: bytes, max_pixels: int) -> _Grid:
    right, bottom, left, top, width, height, tiles_left, tiles_top, components = struct.unpack_from(">8IH", body, 2)
    bound_pixels(max(0, right - left), max(0, bottom - top), max_pixels)
    if not width or not height:
        raise ImageError("damaged: tiles of no pixels in JPEG 2000")
    bound("components", components, COMPONENTS)
    tiles = max(1, -(-(right - tiles_left) // width)) * max(1, -(-(bottom - tiles_top) // height))
    bound("tiles", tiles, TILES)
    return _Grid(min(width, right - left), min(height, bottom - top), tiles, components)


def _check_style(has_precincts: int, style: bytes, layers: int, grid: _Grid) -> None:
    """Counts what one coding style makes of the image, as if all its tiles and components had that style."""
    levels, log_width, log_height = style[0], style[1] + 2, style[2] + 2
    bound("levels of decomposition", levels, LEVELS)
    sizes = style[5 : 6 + levels] if has_precincts else bytes([0xFF] * (levels + 1))
    if len(sizes) <= levels:
        raise IndexError
    precincts = blocks = 0
    steps: list[tuple[int, int]] = []
    for resolution, size in enumerate(sizes):
        across, down, less = size & 15, size >> 4, levels - resolution
        width, height = -(-grid.tile_width >> less) + 1, -(-grid.tile_height >> less) + 1
        precincts += _parts(width, across) * _parts(height, down)
        blocks += _parts(width, min(log_width, across)) * _parts(height, min(log_height, down))
        steps.append((across + less, down + less))
    bound("precincts a tile", precincts * grid.components, PRECINCTS)
    bound("code-blocks a tile", blocks * grid.components, CODE_BLOCKS)
    bound("packets", precincts * layers * grid.components * grid.tiles, PACKETS)
    positions = _parts(grid.tile_width, min(steps)[0]) * _parts(grid.tile_height, min(down for _, down in steps))
    bound("positions of packets", positions * (levels + 1) * grid.components * grid.tiles, POSITIONS)


def _parts(pixels: int, log_side: int) -> int:
    """Returns how many parts of 2 ** log_side pixels cover some."""
    return -(-pixels >> log_side)

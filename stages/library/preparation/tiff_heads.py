"""TIFF's first directory (TIFF 6.0, section 2; BigTIFF is wider), read before it is decoded: how much that would be."""

import struct
from collections.abc import Iterator

from stages.library.preparation.image_formats import ImageError, bound, bound_pixels

# Each strip or tile costs microseconds; 100 megapixels in tiles of 32 x 32 are 98,000.
PARTS = 100_000
# A tile is decoded whole, even where the image ends within: 4,096 x 4,096, the largest that programs offer.
TILE_PIXELS = 1 << 24
FIELDS = 65_535  # more fit in BigTIFF only
# Pillow makes an object of each.
RATIONALS = 10_000

WIDTH, HEIGHT, BITS, COMPRESSION, STRIPS, SAMPLES, STRIP_ROWS = 256, 257, 258, 259, 273, 277, 278
TILE_WIDTH, TILE_HEIGHT, TILES = 322, 323, 324
LOOKED_AT = {WIDTH, HEIGHT, BITS, COMPRESSION, STRIPS, SAMPLES, STRIP_ROWS, TILE_WIDTH, TILE_HEIGHT, TILES}
INTEGERS = {1: "B", 3: "H", 4: "I", 16: "Q"}
RATIONAL_TYPES = {5, 10}
NOT_COMPRESSED = 1


def check(content: bytes, max_pixels: int) -> None:
    """Raises ImageError where the first directory's image is too large, has too many parts, or a field twice."""
    order = "<" if content[:1] == b"I" else ">"
    values, parts = {COMPRESSION: NOT_COMPRESSED, SAMPLES: 1, BITS: 1}, {}
    seen: set[int] = set()
    for tag, kind, count, field in _fields(content, order):
        if kind in RATIONAL_TYPES:
            bound(f"values of TIFF's field {tag}", count, RATIONALS)
        if tag not in LOOKED_AT:
            continue
        if tag in seen:
            raise ImageError(f"damaged: TIFF's field {tag} is there twice")
        seen.add(tag)
        if tag in (STRIPS, TILES):
            parts[tag] = count
            continue
        if tag != BITS and (count != 1 or kind not in INTEGERS or struct.calcsize(INTEGERS[kind]) > len(field)):
            raise ImageError(f"damaged: TIFF's field {tag} has {count:,} values of type {kind}")
        values[tag] = _first_value(content, kind, count, field, order)
    width, height = values.get(WIDTH, 0), values.get(HEIGHT, 0)
    bound_pixels(width, height, max_pixels)
    # Pillow reads strips that share their bytes byte by byte. (A pixel may have further samples, which may be fewer.)
    if values[COMPRESSION] == NOT_COMPRESSED and 8 * len(content) < width * height * values[BITS]:
        raise ImageError(f"damaged: image file is truncated ({len(content):,} bytes for {width} x {height} px)")
    if TILES in parts or TILE_WIDTH in values or TILE_HEIGHT in values:
        across, down = values.get(TILE_WIDTH) or width, values.get(TILE_HEIGHT) or height
        bound("pixels a tile", across * down, max(TILE_PIXELS, 2 * width * height))
    else:
        across, down = width, values.get(STRIP_ROWS) or height
    grid = -(-width // across) * -(-height // down)
    bound("strips or tiles", grid, PARTS)
    if grid > 1:  # of several parts that each cover the image, one is read
        bound("strips or tiles that its size asks for", max(parts.values(), default=0), grid * max(1, values[SAMPLES]))


def _fields(content: bytes, order: str) -> Iterator[tuple[int, int, int, bytes]]:
    """Yields (tag, type, number of values, the values or their place) of the first directory."""
    is_big = content[2] == 43
    try:
        (start,) = struct.unpack_from(order + ("Q" if is_big else "I"), content, 8 if is_big else 4)
        (number,) = struct.unpack_from(order + ("Q" if is_big else "H"), content, start)
    except struct.error:
        return
    bound("fields of TIFF", number, FIELDS)
    field = struct.Struct(order + ("HHQ8s" if is_big else "HHI4s"))
    start += 8 if is_big else 2
    end = start + min(number, (len(content) - start) // field.size) * field.size
    yield from field.iter_unpack(content[start:end])


def _first_value(content: bytes, kind: int, count: int, field: bytes, order: str) -> int:
    """Returns the first value of a field, which may stand elsewhere; 1 where it can't be read."""
    letter = INTEGERS.get(kind, "H")
    source, place = field, 0
    if count * struct.calcsize(letter) > len(field):
        source, place = content, struct.unpack(order + ("Q" if len(field) == 8 else "I"), field)[0]
    if not 0 <= place <= len(source) - struct.calcsize(letter):
        return 1
    return int(struct.unpack_from(order + letter, source, place)[0])

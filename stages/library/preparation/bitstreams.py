"""JPEG and PNG files, walked once from part to part: whether they have too many, and whether each is well formed.

Pillow stops reading when it has all pixels; TensorFlow's decoders also fail on what comes after them, or is missing.
The walks see at least the parts that Pillow and libjpeg see: garbage between parts hides none from them.
"""

import re
import struct
import zlib

from stages.library.preparation.image_formats import bound

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_CHUNK = struct.Struct(">I4s")

# Of a PNG: in chunks of 4 kB, 100 megapixels of noise in RGB are 73,000. Each costs microseconds.
CHUNKS = 100_000
# Pillow expands each to as much as a megabyte, and reads them all.
PACKED, PACKED_CHUNKS = {b"zTXt", b"iTXt", b"iCCP"}, 256

# Of a JPEG: cameras and encoders write up to 20 scans, and up to 255 segments of a colour profile.
SCANS, SEGMENTS = 100, 5_000
# Each scan goes over all pixels, however few bytes it has: 25 scans of 100 megapixels, in half a second.
SCANNED_PIXELS = 2_500_000_000
# EXIF has one segment of 64 kB by its standard. Pillow copies all that came before for each further one.
EXIF_SEGMENTS = 64

# JPEG markers (ITU-T T.81, table B.1), the byte after 0xFF.
START_OF_SCAN, END_OF_IMAGE, APP1 = 0xDA, 0xD9, 0xE1
START_OF_FRAME = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
ALONE = {0x01, 0xC8, 0xD8, 0xD9, *range(0xF0, 0xFE)}  # no length follows, or readers ignore it
# Baseline, extended and progressive Huffman coding; decoders differ on lossless and arithmetic coding.
COMMON_FRAMES = {0xC0, 0xC1, 0xC2}
# Any marker but a stuffed zero, a fill byte or a restart. Readers skip what stands before it.
MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


def walk_jpeg(content: bytes) -> bool:
    """Returns whether a JPEG is coded in a common way and all its segments are whole; ImageError: too many parts."""
    position, frame, pixels, is_whole, in_scan = 2, 0, 0, True, False
    segments = scans = exif = 0
    while found := MARKER.search(content, position):
        marker = content[found.end() - 1]
        is_whole = is_whole and (in_scan or not content[position : found.start()].strip(b"\xff"))
        if marker == END_OF_IMAGE and scans:
            return is_whole and frame in COMMON_FRAMES
        position, in_scan = found.end(), marker == START_OF_SCAN
        segments += 1
        bound("segments", segments, SEGMENTS)
        if marker in ALONE:
            is_whole = False
            continue
        if marker in START_OF_FRAME:
            frame = marker
            height, width = (int.from_bytes(content[position + at : position + at + 2]) for at in (3, 5))
            pixels = max(pixels, width * height)
        elif in_scan:
            scans += 1
            bound("scans", scans, SCANS)
            bound("pixels in all scans", scans * pixels, SCANNED_PIXELS)
        elif marker == APP1 and content.startswith(b"Exif\0\0", position + 2):
            exif += 1
            bound("segments of EXIF", exif, EXIF_SEGMENTS)
        position += max(2, int.from_bytes(content[position : position + 2]))
    return False


def walk_png(content: bytes) -> bool:
    """Returns whether a PNG is 8-bit grey or RGB and all its chunks are whole; ImageError: too many chunks."""
    is_plain = content[12:16] == b"IHDR" and content[24:25] == b"\x08" and content[25:26] in (b"\0", b"\2")
    position, chunks, packed = len(PNG_SIGNATURE), 0, 0
    while position + 12 <= len(content):
        length, kind = PNG_CHUNK.unpack_from(content, position)
        end = position + 8 + length
        chunks += 1
        bound("chunks", chunks, CHUNKS)
        if kind in PACKED:
            packed += 1
            bound("compressed chunks of text or colour profiles", packed, PACKED_CHUNKS)
        is_plain = is_plain and zlib.crc32(content[position + 4 : end]) == int.from_bytes(content[end : end + 4])
        if kind == b"IEND":
            return is_plain and len(content) >= end + 4
        position = end + 4
    return False

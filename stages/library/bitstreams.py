"""Whether a JPEG or PNG file is well formed throughout, so that decoders stricter than Pillow's take it as it is.

Pillow stops reading when it has all pixels; TensorFlow's decoders also fail on what comes after them, or is missing.
"""

import re
import zlib

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

# JPEG markers (ITU-T T.81, table B.1), the byte after 0xFF.
FILL, START_OF_SCAN, END_OF_IMAGE = 0xFF, 0xDA, 0xD9
START_OF_FRAME = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Baseline, extended and progressive Huffman coding; decoders differ on lossless and arithmetic coding.
COMMON_FRAMES = {0xC0, 0xC1, 0xC2}
# What ends coded data: any marker but a stuffed zero, a fill byte or a restart.
AFTER_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


def is_common_jpeg(content: bytes) -> bool:
    """Whether a JPEG is coded in a common way and all its segments are whole, up to the end of the image."""
    position, frame = 2, 0
    while position + 4 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker == FILL:
            position += 1
            continue
        if marker == END_OF_IMAGE:
            break
        if marker in START_OF_FRAME:
            frame = marker
        position += 2 + int.from_bytes(content[position + 2 : position + 4])
        if marker == START_OF_SCAN:
            end = AFTER_SCAN.search(content, position)
            position = end.start() if end else len(content)
    return frame in COMMON_FRAMES and content[position : position + 2] == bytes([0xFF, END_OF_IMAGE])


def is_plain_png(content: bytes) -> bool:
    """Whether a PNG is 8-bit grey or RGB and all its chunks are whole, up to its end."""
    if content[:8] != PNG_SIGNATURE or content[12:16] != b"IHDR" or content[24] != 8 or content[25] not in (0, 2):
        return False
    position = len(PNG_SIGNATURE)
    while position + 12 <= len(content):
        end = position + 8 + int.from_bytes(content[position : position + 4])
        kind = content[position + 4 : position + 8]
        if zlib.crc32(content[position + 4 : end]) != int.from_bytes(content[end : end + 4]):
            return False
        if kind == b"IEND":
            return len(content) >= end + 4
        position = end + 4
    return False

"""What a file of any format says in its head, looked at before it is decoded."""

import io
import struct
from collections.abc import Callable

from PIL import BmpImagePlugin, IcoImagePlugin, ImageFile

from stages.library.preparation import bitstreams, jpeg2000_heads, tiff_heads
from stages.library.preparation.image_formats import ImageError, bound, bound_pixels

# Decoders of Pillow that are written in Python, and take half a microsecond a value.
SLOW_DECODERS = {"bmp_rle", "ppm", "ppm_plain"}
SLOW_VALUES = 6_000_000
GIF_BLOCKS = 100_000  # of comments and extensions before the first image
PPM_HEAD = 65_536  # bytes, with the comments in it
PPM_COMMENTS = 1_000  # of the plain form; for each, Pillow copies a megabyte


def check(content: bytes, max_pixels: int) -> bool:
    """Tells whether a file is a JPEG or a PNG that is well formed throughout (see `bitstreams`), without decoding any.

    ImageError: decoding takes more time or memory than its size accounts for, or the size is over the limit.
    """
    found = [checks for signatures, checks in CHECKS.items() if content.startswith(signatures)]
    return bool(found and found[0](content, max_pixels))


def in_icon(content: bytes) -> bytes:
    """Returns the image in an icon that Pillow would take, a PNG or a bitmap without its file's head; b"": no icon."""
    if not content.startswith(b"\0\0\1\0"):
        return b""
    return content[IcoImagePlugin.IcoFile(io.BytesIO(content)).entry[0].offset :]


def check_bitmap(content: bytes, max_pixels: int) -> tuple[int, int]:
    """Returns the size of an icon's bitmap, by its own head; as high again is its mask."""
    return check_opened(BmpImagePlugin.DibImageFile(io.BytesIO(content)), max_pixels, parts=2)


def check_opened(image: ImageFile.ImageFile, max_pixels: int, parts: int = 1) -> tuple[int, int]:
    """Returns the width and height that will be decoded; `parts` divides the height."""
    width, height = image.width, image.height // parts
    bound_pixels(width, height, max_pixels)
    if any(tile[0] in SLOW_DECODERS for tile in image.tile):
        values = width * height * len(image.getbands())
        bound("values of run-length BMP, or of PPM that is text or not of 8 or 16 bits", values, SLOW_VALUES)
    return width, height


def _check_gif(content: bytes, _: int) -> None:
    flags = content[10] if len(content) > 10 else 0
    position, blocks = 13 + (3 << (flags & 7) + 1 if flags & 128 else 0), 0
    while position < len(content) and content[position] not in b",;":
        is_extension = content[position] == ord("!")
        position += 2 if is_extension else 1
        blocks += 1
        while is_extension and position < len(content) and content[position] and blocks <= GIF_BLOCKS:
            position += 1 + content[position]
            blocks += 1
        bound("blocks before the first image", blocks, GIF_BLOCKS)
        position += is_extension


def _check_webp(content: bytes, max_pixels: int) -> None:
    """Checks the canvas, for which memory is set aside as soon as Pillow opens the file."""
    kind, data = content[12:16], content[20:30]
    if len(data) < 10:
        return
    if kind == b"VP8X":
        bound_pixels(1 + int.from_bytes(data[4:7], "little"), 1 + int.from_bytes(data[7:10], "little"), max_pixels)
    elif kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 6)
        bound_pixels(width & 0x3FFF, height & 0x3FFF, max_pixels)
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 1)
        bound_pixels(1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), max_pixels)


def _check_ppm(content: bytes, _: int) -> None:
    """Checks the comments, which Pillow skips byte by byte, or by copying what follows."""
    lines = content[:PPM_HEAD].replace(b"\r", b"\n").split(b"\n")
    words = b" ".join(line.partition(b"#")[0] for line in lines).split()
    if len(words) < 3 and len(content) > PPM_HEAD:
        raise ImageError(f"more than {PPM_HEAD:,} bytes in the head of a PPM")
    if content[1:2] in b"123":
        bound("comments", content.count(b"#"), PPM_COMMENTS)


CHECKS: dict[bytes | tuple[bytes, ...], Callable[[bytes, int], bool | None]] = {
    b"\xff\xd8\xff": lambda content, _: bitstreams.walk_jpeg(content),
    bitstreams.PNG_SIGNATURE: lambda content, _: bitstreams.walk_png(content),
    (jpeg2000_heads.CODE_STREAM, jpeg2000_heads.SIGNATURE): jpeg2000_heads.check,
    (b"II*\0", b"MM\0*", b"MM*\0", b"II\0*", b"II+\0", b"MM\0+"): tiff_heads.check,
    b"GIF8": _check_gif,
    b"RIFF": _check_webp,
    b"P": _check_ppm,
}

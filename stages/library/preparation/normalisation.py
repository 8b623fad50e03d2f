"""Images of any format as upright 8-bit grey or RGB, in JPEG or PNG bytes that every decoder reads.

Plain JPEG and PNG files keep their bytes: encoding them again would cost time and, for JPEG, quality. What can't keep
them becomes PNG, but for a large JPEG or HEIC, as phones write: as PNG, 12 megapixels of 2 MB took 16 MB.
"""

import contextlib
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from stages.library.preparation import image_heads
from stages.library.preparation.bitstreams import PNG_SIGNATURE
from stages.library.preparation.image_formats import FORMATS as FORMATS
from stages.library.preparation.image_formats import ImageError as ImageError
from stages.library.sources.image_files import what_else

MAX_PIXELS = 100_000_000
LARGE_PIXELS = 1_000_000
# A JPEG that keeps its bytes is decoded at a half, a quarter or an eighth, but no side shorter than this. All its coded
# data is read even so. What is spared, half of the time, can't fail: the inverse DCT, upsampling and colours.
LOOKED_AT_PX = 32
# Of a large JPEG that must be encoded again; networks see it shrunk, and what this loses is lost in the shrinking.
AGAIN = {"quality": 95, "subsampling": "4:4:4"}

KEPT = {"JPEG": "jpeg", "MPO": "jpeg", "PNG": "png"}  # MPO: a JPEG with further images after its end, as phones write
EXIF_ORIENTATION = 0x0112
Transpose = Image.Transpose
UPRIGHT_BY = {2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM}
UPRIGHT_BY |= {5: Transpose.TRANSPOSE, 6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_90}
TIFF_BITS, TIFF_PHOTOMETRIC, TIFF_WHITE_IS_ZERO = 258, 262, 0


@dataclass(frozen=True)
class Values:
    """What the numbers of an image's pixels are, all channels together; of a shrunk JPEG those of means of pixels."""

    minimum: int
    maximum: int
    total: int
    count: int

    def __add__(self, other: "Values") -> "Values":
        minimum, maximum = min(self.minimum, other.minimum), max(self.maximum, other.maximum)
        return Values(minimum, maximum, self.total + other.total, self.count + other.count)


@dataclass(frozen=True)
class Normalised:
    """An image whose bytes were read to their end."""

    encoded: bytes  # JPEG or PNG, 8 bits a channel, grey or RGB, upright
    format: str  # "jpeg" or "png"
    height: int  # px
    width: int
    key: str  # hex sha256 of the source: a file's bytes, or an array's shape and pixels
    values: Values  # of the pixels; counted where the image is decoded, for that is done on all cores


def normalise(
    content: bytes | np.ndarray,
    max_pixels: int = MAX_PIXELS,
    before_decoding: Callable[[int], object] = lambda pixels: None,
) -> Normalised:
    """Verifies an image and gives it back as upright 8-bit grey or RGB, encoded.

    Of animations the first frame; transparency on white; 16 bits by their upper 8; turned as EXIF says. An array is
    uint8 (height, width[, 1 or 3]), else ValueError. `before_decoding` is called with the number of pixels that will be
    decoded, when the head has been checked. ImageError: the bytes are no image or damaged, or hold more pixels or parts
    than they may (see `image_heads`).
    """
    if isinstance(content, np.ndarray):
        return _from_array(content)
    return _from_file(content, max_pixels, before_decoding)


def _from_array(pixels: np.ndarray) -> Normalised:
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (1,), (3,)):
        raise ValueError(f"pixels must be uint8 (height, width[, 1 or 3]). Received: {pixels.dtype} {pixels.shape}")
    if not pixels.size:
        raise ImageError("no pixels")
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    key = hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).hexdigest()
    return _encoded(pixels[..., 0] if pixels.shape[2] == 1 else pixels, key, "png")


def _from_file(content: bytes, max_pixels: int, announce: Callable[[int], object]) -> Normalised:
    key = hashlib.sha256(content).hexdigest()
    with _reasons(content, max_pixels):
        part, bitmap = image_heads.in_icon(content), None
        if part.startswith(PNG_SIGNATURE):  # taken out, for of a PNG in an icon Pillow loses what is transparent
            content = part
        elif part:
            bitmap = image_heads.check_bitmap(part, max_pixels)
            announce(bitmap[0] * bitmap[1])  # Pillow decodes it as it opens it
        is_well_formed = image_heads.check(content, max_pixels) and not part
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            width, height = size = bitmap or image_heads.check_opened(image, max_pixels)
            is_jpeg = KEPT.get(str(image.format)) == "jpeg"
            is_photo = is_jpeg or image.format == "HEIF"
            kept = _kept_format(image) if is_jpeg and is_well_formed else ""
            if kept:
                image.draft(image.mode, (LOOKED_AT_PX, LOOKED_AT_PX))
                size = image.size
            if not bitmap:
                announce(width * height)
            image.load()
            if sorted(image.size) != sorted(size):  # a TIFF is turned as it is decoded
                said = f"its head says {size[0]} x {size[1]}"
                raise ImageError(f"damaged: {image.width} x {image.height} px where {said}")
            if not is_jpeg and is_well_formed:  # a PNG may say after its pixels how it is turned
                kept = _kept_format(image)
            if not kept:
                pixels = _to_8_bit(image, content)
    if not kept:
        return _encoded(pixels, key, "jpeg" if is_photo and width * height > LARGE_PIXELS else "png")
    return Normalised(content, kept, height, width, key, _values(image, width * height))


@contextlib.contextmanager
def _reasons(content: bytes, max_pixels: int) -> Iterator[None]:
    """Makes ImageError of whatever reading a file raises."""
    if not content:
        raise ImageError("empty file")
    try:
        yield
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(f"more than {max_pixels / 1e6:g} megapixels") from error
    except UnidentifiedImageError as error:
        raise ImageError(what_else(content)) from error
    except Exception as error:  # damaged files make Pillow raise anything, from struct.error to KeyError
        raise ImageError(f"damaged: {' '.join(str(error).split()) or type(error).__name__}") from error


def _kept_format(image: Image.Image) -> str:
    """Returns "jpeg" or "png" where a well-formed file is upright 8-bit grey or RGB as it stands, else ""."""
    is_plain = image.mode in ("L", "RGB") and "transparency" not in image.info and _turn(image) is None
    return KEPT.get(str(image.format), "") if is_plain else ""


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return UPRIGHT_BY.get(int(image.getexif().get(EXIF_ORIENTATION, 1)))
    except Exception:  # noqa: BLE001 - a broken EXIF block raises anything, and is no reason to lose the image
        return None


def _to_8_bit(image: Image.Image, content: bytes) -> np.ndarray:
    """Returns the pixels of an image, upright, grey or RGB; `content` is its file."""
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    turn = _turn(image)
    if image.format == "PNG" and image.mode in ("1", "L", "I;16", "RGB") and "transparency" in image.info:
        image = _without_colour_key(image, content)
    if turn is not None:
        image = image.transpose(turn)
    if image.mode.startswith("I"):
        return _upper_bits(np.asarray(image), tags)
    if image.mode == "F":
        raise ImageError("floating-point pixels, which have no agreed range")
    mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.asarray(image.convert(mode))


def _without_colour_key(image: Image.Image, content: bytes) -> Image.Image:
    """Returns a grey or RGB PNG with white where its pixels equal the colour that is transparent (tRNS).

    The colour has as many bits as a sample, and all of them count. Pillow leaves grey of 2 and 4 bits unscaled, has no
    transparency in 16 bits of grey, and keeps the upper 8 bits of 16 of RGB.

    Reference: W3C, Portable Network Graphics (PNG) Specification, third edition, 11.3.1.1.
    """
    bits = content[24]
    pixels = np.array(image.convert("L") if image.mode == "1" else image)
    colour, most = np.atleast_1d(image.info["transparency"]), 2**bits - 1
    # Bits above those of a sample don't count. Pillow scales the colour of 1 bit, in some versions.
    colour = 255 * (colour > 0) if bits == 1 else (colour & most) * max(255 // most, 1)
    if bits == 16 and image.mode == "RGB":
        with Image.open(io.BytesIO(content), formats=("PNG",)) as lower:
            assert isinstance(lower, PngImagePlugin.PngImageFile)
            lower.tile = [lower.tile[0]._replace(args="RGB;16L")]  # samples in the other order of bytes
            is_key = (pixels == colour >> 8).all(axis=2) & (np.asarray(lower) == colour & 255).all(axis=2)
    else:
        is_key = (pixels.reshape(*pixels.shape[:2], -1) == colour).all(axis=2)
    pixels[is_key] = np.iinfo(pixels.dtype).max
    return Image.fromarray(pixels)


def _upper_bits(pixels: np.ndarray, tags: Mapping[int, Any]) -> np.ndarray:
    # Pillow hands 12 bits over as they are, and 16 where 0 means white.
    bits = 12 if tuple(tags.get(TIFF_BITS, ())) == (12,) else 16
    if pixels.min() < 0 or pixels.max() >> bits:
        raise ImageError("32-bit pixels, which have no agreed range")
    grey = (pixels >> (bits - 8)).astype(np.uint8)
    return 255 - grey if tags.get(TIFF_PHOTOMETRIC) == TIFF_WHITE_IS_ZERO else grey


def _encoded(pixels: np.ndarray, key: str, kind: str) -> Normalised:
    image = Image.fromarray(pixels)
    encoded = io.BytesIO()
    # Level 1: several times as fast as the default, and a tenth larger.
    image.save(encoded, kind, **(AGAIN if kind == "jpeg" else {"compress_level": 1}))
    values = _values(image, image.width * image.height)
    return Normalised(encoded.getvalue(), kind, image.height, image.width, key, values)


def _values(image: Image.Image, pixels: int) -> Values:
    """Counts the values of an image of so many pixels, which `image` may have been shrunk from."""
    counts = np.reshape(image.histogram(), (-1, 256)).sum(axis=0)
    seen = counts.nonzero()[0]
    number = pixels * len(image.getbands())
    total = int(counts @ np.arange(256)) * number // int(counts.sum())
    return Values(int(seen[0]), int(seen[-1]), total, number)

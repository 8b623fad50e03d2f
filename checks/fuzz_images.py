"""Images, as the fuzzer sees them."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from checks import fuzz_limits
from checks.fuzz_structures import images
from stages.library.figures import thumbnails
from stages.library.preparation import normalisation

COMPARED_PIXELS = 1_000_000  # of large images some rows
# What reading an image may take, and an accepted one beside that for each of its pixels.
IMAGE_BYTES, IMAGE_SECONDS = 600 << 20, 5.0
PIXEL_BYTES, PIXEL_SECONDS = 16, 1e-7


def image(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    """Returns a small image in a file format of Pillow."""
    rng = np.random.default_rng(0)
    pixels = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8)).convert(mode)
    file = io.BytesIO()
    pixels.save(file, kind, **options)
    return file.getvalue()


def seeds(folder: Path) -> list[bytes]:
    """Images of many formats and modes, two frames and two pages among them."""
    more = [Image.new("RGB", (12, 9), colour) for colour in ("red", "blue")]
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = [image(kind) for kind in ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM", "ICO", "TGA", "JPEG2000")]
    modes = [image("PNG", "P"), image("PNG", "RGBA"), image("PNG", "I;16"), image("JPEG", "L"), image("JPEG", "CMYK")]
    animated = [image("GIF", save_all=True, append_images=more), image("WEBP", save_all=True, append_images=more)]
    others = [image("JPEG", exif=exif), image("JPEG", progressive=True, quality=20)]
    return [*plain, *modes, *animated, *others, *images.seeds()]


def read(content: bytes, folder: Path) -> None:
    """An image of a data set, of the command line or of the web page."""
    with fuzz_limits.limited(IMAGE_BYTES, IMAGE_SECONDS, images.kind(content)) as allowance:
        found = normalisation.normalise(content)
        allowance.memory_bytes = PIXEL_BYTES * found.height * found.width
        allowance.cpu_seconds = PIXEL_SECONDS * found.height * found.width
    pixels = thumbnails.decode(found.encoded)
    assert pixels.shape == (found.height, found.width, 3), "its stated size is that of its pixels"
    loss = 0 if found.source is None else 64  # a large JPEG that is encoded again
    some = slice(None, None, 1 + found.height * found.width // COMPARED_PIXELS)
    np.testing.assert_allclose(pixels[some, :, :1], found.pixels[some, :, :1], rtol=0, atol=loss)

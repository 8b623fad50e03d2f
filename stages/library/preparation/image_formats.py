"""Which formats of images are opened, and how much of anything a file may have."""

import importlib
import warnings

from stages.library.sources.image_files import HAS_HEIC

# Only these are opened, and only their plug-ins loaded, none of which opens what it holds by any other. Some of Pillow
# do: IPTC takes whatever it finds, which may be PostScript, a program that is handed to Ghostscript. MPO comes as JPEG.
FORMATS: tuple[str, ...] = ("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")
PLUGINS = ("Avif", "Bmp", "Gif", "Ico", "Jpeg", "Jpeg2K", "Mpo", "Png", "Ppm", "Tga", "Tiff", "WebP")
for plugin in PLUGINS:
    importlib.import_module(f"PIL.{plugin}ImagePlugin")
if HAS_HEIC:
    heif = importlib.import_module("pillow_heif")
    heif.register_heif_opener()
    heif.options.DECODE_THREADS = 1  # each takes address space, and the workers share the cores already
    FORMATS += ("HEIF",)

# Odd metadata must not fill the terminal. A lasting filter, for `catch_warnings` is not safe in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")

# px, as in JPEG. libpng, by which others read what we write, takes a million; but to shrink an image is to lay out as
# many rows or columns of its longer side as a network takes: 2.7 GB for a single row of a million.
MAX_SIDE = 65_535


class ImageError(Exception):
    """An image can't be used; `str(error)` is the reason, in one line and the same on every run."""


def bound(what: str, value: int, limit: int) -> None:
    """Raises ImageError where `value` is over the limit; `what` is plural, as in "scans"."""
    if value > limit:
        raise ImageError(f"more than {limit:,} {what}: {value:,}")


def bound_pixels(width: int, height: int, max_pixels: int) -> None:
    """Raises ImageError where a size has no pixels, more than `max_pixels`, or a side over `MAX_SIDE`."""
    if width * height > max_pixels:
        raise ImageError(f"more than {max_pixels / 1e6:g} megapixels: {width} x {height} px")
    if width * height == 0:
        raise ImageError("no pixels")
    bound("pixels in a row", max(width, height), MAX_SIDE)

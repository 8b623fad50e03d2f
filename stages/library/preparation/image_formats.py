"""Which formats of images are opened, what else comes in their place, and how much of anything a file may have."""

import importlib
import importlib.util
import warnings

# Only these are opened, and only their plug-ins loaded, none of which opens what it holds by any other. Some of Pillow
# do: IPTC takes whatever it finds, which may be PostScript, a program that is handed to Ghostscript. MPO comes as JPEG.
FORMATS: tuple[str, ...] = ("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")
PLUGINS = ("Avif", "Bmp", "Gif", "Ico", "Jpeg", "Jpeg2K", "Mpo", "Png", "Ppm", "Tga", "Tiff", "WebP")
for plugin in PLUGINS:
    importlib.import_module(f"PIL.{plugin}ImagePlugin")
if importlib.util.find_spec("pillow_heif"):
    importlib.import_module("pillow_heif").register_heif_opener()
    FORMATS += ("HEIF",)

# Files that come in the place of images: (where, what stands there, what it is), for the reason.
OTHERS = (
    (4, (b"ftypheic", b"ftypheix", b"ftypmif1"), "HEIC, which can't be decoded (export it as JPEG)"),
    (4, b"ftyp", "a film, not an image"),
    (0, b"%PDF", "PDF, not an image"),
    (0, b"PK\3\4", "a zip archive, not an image"),
    (0, b"version https://git-lfs", "a pointer of Git LFS (fetch the file by: git lfs pull)"),
)

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


def what_else(content: bytes) -> str:
    """Returns what a file is that is no image, for the reason."""
    start = content[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "HTML, not an image"
    if start.startswith((b"<svg", b"<?xml")):
        return "SVG or other XML, not an image of pixels"
    return next((what for place, mark, what in OTHERS if content.startswith(mark, place)), "not an image")

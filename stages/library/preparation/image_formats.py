"""Which formats of images are opened, and what a file is that comes in the place of one."""

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


def what_else(content: bytes) -> str:
    """Returns what a file is that is no image, for the reason."""
    start = content[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "HTML, not an image"
    if start.startswith((b"<svg", b"<?xml")):
        return "SVG or other XML, not an image of pixels"
    return next((what for place, mark, what in OTHERS if content.startswith(mark, place)), "not an image")

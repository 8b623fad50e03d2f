"""What a file is, by its suffix and its first bytes, before anything decodes it."""

import importlib.util
import posixpath
import re

HEAD_BYTES = 512
SUFFIXES = {".apng", ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".hif", ".ico", ".j2c", ".j2k", ".jfif", ".jp2",
            ".jpc", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga",
            ".tif", ".tiff", ".webp"}  # fmt: skip
HEIC = tuple(b"ftyp" + brand for brand in (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"))
# (where, what stands there): the first bytes of the formats that are opened; a TGA has none.
SIGNATURES = (
    (0, (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"\0\0\1\0")),
    (0, (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")),
    (4, (*HEIC, b"ftypavif", b"ftypavis")),
)
WEAK_SIGNATURES = re.compile(rb"RIFF.{4}WEBP|BM.{4}\0{4}|P[1-6][ \t\r\n#]", re.DOTALL)  # text may begin so, in part

HAS_HEIC = importlib.util.find_spec("pillow_heif") is not None
HEIC_REASON = "HEIC, which needs pillow-heif (pip install -r requirements-heif.txt)"
# Files that come in the place of images: (where, what stands there, what it is), for the reason.
OTHERS = (
    (4, HEIC, "HEIC, damaged" if HAS_HEIC else HEIC_REASON),
    (4, b"ftyp", "a film, not an image"),
    (0, b"%PDF", "PDF, not an image"),
    (0, b"PK\3\4", "a zip archive, not an image"),
    (0, b"version https://git-lfs", "a pointer of Git LFS (fetch the file by: git lfs pull)"),
)


def has_suffix(name: str) -> bool:
    """Tells whether a file is named as an image, in any case."""
    return posixpath.splitext(name.rstrip("/"))[1].lower() in SUFFIXES


def should_be_image(name: str, start: bytes) -> bool:
    """Tells whether a file is one by its name or its first bytes; if it can't be read, that is worth an error."""
    strong = any(start.startswith(marks, place) for place, marks in SIGNATURES)
    return strong or has_suffix(name) or WEAK_SIGNATURES.match(start) is not None


def what_else(content: bytes) -> str:
    """Returns what a file is that is no image, by its first bytes, for the reason."""
    start = content[:HEAD_BYTES].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "HTML, not an image"
    if start.startswith((b"<svg", b"<?xml")):
        return "SVG or other XML, not an image of pixels"
    return next((what for place, mark, what in OTHERS if content.startswith(mark, place)), "not an image")

"""What is bounded in a file before its pixels are decoded: parts that cost time or memory whatever the size says."""

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

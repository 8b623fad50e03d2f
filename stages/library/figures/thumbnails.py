"""Images of the records at the size that a figure shows them in."""

import io

import numpy as np
from PIL import Image


def decode(encoded: bytes, enough_px: int | None = None) -> np.ndarray:
    """Returns uint8 (height, width, 3); with `enough_px` a large JPEG comes smaller, but no side shorter than this."""
    with Image.open(io.BytesIO(encoded), formats=("JPEG", "PNG")) as image:
        if enough_px is not None:
            image.draft(image.mode, (enough_px, enough_px))
        return np.asarray(image.convert("RGB"))


def fit(pixels: np.ndarray, side_px: int) -> np.ndarray:
    """Returns the image scaled so that its longer side has `side_px`; small ones show their pixels."""
    height, width = pixels.shape[:2]
    scale = side_px / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    method = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(pixels).resize(size, method))


def thumbnail(encoded: bytes, side_px: int) -> np.ndarray:
    """Returns an image that `normalise` gave as `fit` does, of a large JPEG in a fraction of the time."""
    return fit(decode(encoded, enough_px=2 * side_px), side_px)

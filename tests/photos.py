"""Generated photographs, and copies of them."""

import io

import numpy as np
from PIL import Image


def photo(seed, size=(160, 120)):
    """Smooth colours and sharper shapes on them, as a photograph has, width x height."""
    rng = np.random.default_rng(seed)
    layers = [
        np.asarray(
            Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
        )
        for side in (3, 6, 12, 24)
    ]
    return Image.fromarray(np.mean(layers, axis=0).astype(np.uint8))


def encoded(image, kind="PNG", **options):
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def cut(image, left, top, right, bottom):
    """The image without these fractions of its sides."""
    width, height = image.size
    return image.crop(
        (round(left * width), round(top * height), round((1 - right) * width), round((1 - bottom) * height))
    )

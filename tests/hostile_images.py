"""The hostile images of checks/hostile_images.py, under the names that the tests know."""

from checks.hostile_images import EXIF, FILES
from checks.image_builders import (
    POSTSCRIPT,
    bitmap,
    gif,
    icon,
    iptc,
    jpeg2000,
    jpeg_with,
    png_with,
    profiles,
    scans,
    tiff,
    tiled_tiff,
)  # fmt: skip

__all__ = (
    "EXIF", "FILES", "POSTSCRIPT", "bitmap", "gif", "icon", "iptc", "jpeg2000", "jpeg_with", "png_with", "profiles",
    "scans", "tiff", "tiled_tiff",
)  # fmt: skip
